//! What a sandbox runs on: image references, the content store, layers.
