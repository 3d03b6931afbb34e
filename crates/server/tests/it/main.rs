//! Integration tests.

mod command_line;
