//! Who watches a sandbox: supervision, terminal, time limit, receipts.
