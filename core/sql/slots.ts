import { sqlLiteral } from "../grammar/quoting";

/** Makes a physical slot that reserves WAL at once, unless it is there. */
export function createSlotSql(slot: string): string {
  const name = sqlLiteral(slot);
  return `SELECT pg_create_physical_replication_slot(${name}, true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ${name});\n`;
}

/** Ends the sender that uses the slot, if any, and drops the slot, if it is there. Waits at most 10 s. */
export function dropSlotSql(slot: string): string {
  const name = sqlLiteral(slot);
  return `DO $drop$
DECLARE
  used_by integer;
BEGIN
  FOR attempt IN 1..100 LOOP
    SELECT active_pid INTO used_by FROM pg_replication_slots WHERE slot_name = ${name};
    IF NOT FOUND THEN
      RETURN;
    END IF;
    IF used_by IS NULL THEN
      BEGIN
        PERFORM pg_drop_replication_slot(${name});
        RETURN;
      EXCEPTION WHEN object_in_use THEN
        NULL;
      END;
    ELSE
      PERFORM pg_terminate_backend(used_by);
    END IF;
    PERFORM pg_sleep(0.1);
  END LOOP;
  RAISE EXCEPTION 'slot % is still in use after 10 s', ${name};
END
$drop$;
`;
}
