//! Every audit event: its stable code and fields.
