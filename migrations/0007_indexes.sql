-- What the plans of all statements asked for (tests/it/query_plans.rs).

-- "Is there an operator?" is asked at each start, and nearly no account is one.
CREATE INDEX account_operator ON account (id) WHERE operator = 1;
