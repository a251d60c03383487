//! Limits that hold, on the host this runs on.

use oci_spec::runtime::LinuxResources;

/// Resources from the JSON of a runtime configuration.
pub(super) fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).expect("valid resources")
}
