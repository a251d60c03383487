//! What a sandbox gives away and what it must not take away, asked from inside it by integration/security/probe.
//!
//! `policies` asks every probe under every built-in policy. `proofs` takes one protection after the other away and
//! asks again: a probe that does not notice could not have noticed its loss either.
//! Ordinary programs at work are in integration/programs.

mod policies;
mod proofs;
mod rig;
