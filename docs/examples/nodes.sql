-- Tables for docs/examples/bidirectional.yaml and docs/examples/hub-and-spoke.yaml: the same at every node. Their keys do
-- not come out of sequences, which would hand out the same numbers everywhere, and the old row is in the log, so that
-- every rule can be used.
BEGIN;

CREATE TABLE customers (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  email text,
  phone text,
  updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE customers REPLICA IDENTITY FULL;

CREATE TABLE prices (
  sku varchar(40) PRIMARY KEY,
  price numeric(10,2) NOT NULL CHECK (price >= 0)
);
ALTER TABLE prices REPLICA IDENTITY FULL;

CREATE TABLE stock (
  sku varchar(40) PRIMARY KEY,
  quantity integer NOT NULL DEFAULT 0,
  status text NOT NULL DEFAULT 'available',
  last_counted timestamptz
);
ALTER TABLE stock REPLICA IDENTITY FULL;

COMMIT;
