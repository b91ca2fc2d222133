/** The tables of the sample. */
export const SAMPLE_TABLES = ["customers", "orders"];

/** The guide's sample data (step 2), written so that loading it again changes nothing. */
export const SAMPLE_SQL = `
SET search_path = "$user", public;
BEGIN;
CREATE TABLE IF NOT EXISTS customers (
    customer_id SERIAL PRIMARY KEY,
    email VARCHAR(255) UNIQUE NOT NULL,
    name VARCHAR(100) NOT NULL,
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE TABLE IF NOT EXISTS orders (
    order_id SERIAL PRIMARY KEY,
    customer_id INTEGER REFERENCES customers(customer_id),
    total_amount DECIMAL(10,2) NOT NULL,
    order_status VARCHAR(50) DEFAULT 'pending',
    created_at TIMESTAMP DEFAULT NOW()
);
SELECT NOT EXISTS (SELECT FROM customers) AS empty \\gset
\\if :empty
INSERT INTO customers (email, name) VALUES
    ('john@example.com', 'John Doe'),
    ('jane@example.com', 'Jane Smith'),
    ('bob@example.com', 'Bob Johnson');
INSERT INTO orders (customer_id, total_amount, order_status) VALUES
    (1, 299.99, 'completed'),
    (2, 159.50, 'pending'),
    (1, 89.99, 'shipped'),
    (3, 449.99, 'pending');
\\endif
COMMIT;
`;
