//! Registries: images fetched from them and given to them (OCI distribution specification).
//!
//! ```text
//! a name ──configuration──▶ endpoints ──session──▶ requests ──http──▶ connections
//!                                         │
//!                         credentials, tokens, redirections, second attempts
//! ```
//!
//! A registry is not believed in anything: what it sends is limited in size and checked against the digests that the name or the
//! documents before it give, who asks is proved to its own address alone, and what it redirects to learns of nobody.

mod blob;
mod challenge;
mod configuration;
mod credentials;
mod document;
mod helper;
mod http;
mod options;
mod retry;
mod rules;
mod session;
mod token;
mod trust;

pub use challenge::Challenge;
pub use configuration::{Configuration, Endpoint};
pub use credentials::{Kept, Login};
pub use document::{Descriptor, Document};
pub use options::Options;
pub use retry::Patience;
