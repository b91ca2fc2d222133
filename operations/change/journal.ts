import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "fs";
import { join } from "path";
import type { Change } from "../../core/judgement/changeOfRoles";
import type { Loss } from "./report";

/** What is noted of a change of primary: how far it is, and what its report needs. */
export interface Note extends Change {
  /** What is given up by it, known before the promotion. */
  loss?: Loss;
  /** The logical slots of the node that was primary, which is not there to be asked any more. */
  logicalSlots?: readonly string[];
}

/** Notes that a change of primary is under way, so that one that was interrupted is finished by the next. */
export class Journal {
  private readonly file: string;

  /** @param folder Where the note lies; it is made with the first one. */
  public constructor(
    stack: string,
    private readonly folder: string,
  ) {
    this.file = join(folder, `promotion-${stack}.json`);
  }

  public read(): Note | undefined {
    try {
      return JSON.parse(readFileSync(this.file, "utf8")) as Note;
    } catch {
      return undefined; // no change under way, or killed before its note was whole: nothing was promoted yet
    }
  }

  public begin(change: Note): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    writeFileSync(`${this.file}.new`, JSON.stringify(change));
    renameSync(`${this.file}.new`, this.file);
  }

  public end(): void {
    rmSync(this.file, { force: true });
  }
}
