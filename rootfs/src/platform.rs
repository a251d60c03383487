//! The operating system and processor an image is made for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An operating system and processor, in Go's words as the OCI image-spec has them: `linux/amd64`, `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8` and the like, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform palisade itself was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// Reads `OS/ARCH[/VARIANT]` or `ARCH`; `x86_64` and `aarch64` are taken for amd64 and arm64.
    ///
    /// # Errors
    /// [`Error::Reference`] if the text has another form, or the system is not Linux.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |reason: &str| Error::Reference {
            text: text.to_owned(),
            reason: format!("as a platform, {reason}"),
        };
        let word = |w: &str| {
            !w.is_empty()
                && w.len() < 32
                && w.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-')
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(bad("it should look like linux/amd64"));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] if architecture != "linux" => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(bad("it should look like linux/amd64")),
        };
        if os != "linux" {
            return Err(bad("only linux images run here"));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// Whether an image for `other` is what was asked for by `self`. A missing variant matches any; arm64 is arm64/v8.
    pub fn accepts(&self, other: &Self) -> bool {
        let variant = |p: &Self| {
            p.variant
                .clone()
                .filter(|v| !(v.is_empty() || p.architecture == "arm64" && v == "v8"))
        };
        self.os == other.os
            && self.architecture == other.architecture
            && (variant(self).is_none()
                || variant(other).is_none()
                || variant(self) == variant(other))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .filter(|v| !v.is_empty())
            .try_for_each(|v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_each_form() {
        assert_eq!(
            Platform::parse("linux/arm64/v8").unwrap().to_string(),
            "linux/arm64/v8"
        );
        assert_eq!(
            Platform::parse("x86_64").unwrap().to_string(),
            "linux/amd64"
        );
        for bad in [
            "",
            "/",
            "linux",
            "linux/",
            "windows/amd64",
            "a/b/c/d",
            "linux/am d64",
        ] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_variant_accepts_any_and_a_given_one_only_itself() {
        let p = |text| Platform::parse(text).unwrap();
        assert!(p("linux/arm").accepts(&p("linux/arm/v7")));
        assert!(!p("linux/arm/v6").accepts(&p("linux/arm/v7")));
        assert!(p("linux/arm64").accepts(&p("linux/arm64/v8")));
        assert!(!p("linux/amd64").accepts(&p("linux/arm64")));
    }
}
