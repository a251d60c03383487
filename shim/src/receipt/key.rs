//! The keys that receipts are signed with and verified by: Ed25519, in the PEM files that openssl reads and writes.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use palisade_runtime::{Plan, Root, Tier};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::canonical;
use crate::Error;
use crate::error::said;

/// Far more than any key in PEM has.
const MOST: usize = 64 * 1024;

/// A private key's file, opened and known to hold one.
///
/// The key itself is in memory only while something is signed: PID 1 of a sandbox is a copy of this process.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    file: File,
}

/// A signature and whose it is.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) key: String,
    pub(crate) signature: [u8; 64],
}

impl KeyFile {
    /// Opens a PKCS #8 private key, as `openssl genpkey -algorithm ed25519` writes it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| wrong(path, &said(&error)))?;
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if !regular {
            return Err(wrong(
                path,
                &"it is no regular file, and a key is read anew for each signature",
            ));
        }
        let key = Self {
            path: path.into(),
            file,
        };
        key.load().map(|_| key)
    }

    /// Refuses a key that the command of `plan` could read: it could then sign what it likes.
    pub(crate) fn refuse_exposed(&self, plan: &Plan) -> Result<(), Error> {
        let path =
            fs::canonicalize(&self.path).map_err(|error| wrong(&self.path, &said(&error)))?;
        let shown = |directory: &Path| {
            fs::canonicalize(directory).is_ok_and(|directory| path.starts_with(directory))
        };
        let mount = shared(plan).find(|mount| mount.source().as_deref().is_some_and(shown));
        if let Some(mount) = mount {
            let destination = mount.destination().display();
            return Err(wrong(
                &self.path,
                &format!("the sandbox would see it below {destination}, and could sign with it"),
            ));
        }
        if let Some(directory) = within_reach(plan, &path, false) {
            return Err(wrong(
                &self.path,
                &format!(
                    "the command, which sees the host's files here, may read what lies below {}",
                    directory.display()
                ),
            ));
        }
        match &plan.root {
            Root::Overlay { lower, .. } if lower.iter().any(|layer| shown(layer)) => Err(wrong(
                &self.path,
                &"it lies in the image, which could sign with it",
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signed, Error> {
        let key = self.load()?;
        Ok(Signed {
            key: id(&key.verifying_key()),
            signature: key.sign(message).to_bytes(),
        })
    }

    fn load(&self) -> Result<SigningKey, Error> {
        let mut bytes = Zeroizing::new(vec![0; MOST]);
        let length = self
            .file
            .read_at(&mut bytes, 0)
            .map_err(|error| wrong(&self.path, &said(&error)))?;
        let no_key = || {
            wrong(
                &self.path,
                &"it holds no unencrypted Ed25519 private key in PEM",
            )
        };
        let text = str::from_utf8(&bytes[..length]).map_err(|_| no_key())?;
        SigningKey::from_pkcs8_pem(text.trim_ascii_start()).map_err(|_| no_key())
    }
}

/// The directory through which a command without namespaces reaches `path`, on the host as it is: one that its Landlock rules
/// grant, or everything where there are none.
pub(crate) fn within_reach(plan: &Plan, path: &Path, writes: bool) -> Option<PathBuf> {
    if plan.tier != Tier::NoNamespace {
        return None;
    }
    let Some(rules) = &plan.landlock else {
        return Some("/".into());
    };
    rules
        .iter()
        .filter(|rule| rule.access.writes() || !writes)
        .find(|rule| fs::canonicalize(&rule.path).is_ok_and(|granted| path.starts_with(granted)))
        .map(|rule| rule.path.clone())
}

/// The mounts of a plan that show a part of the host.
pub(crate) fn shared(plan: &Plan) -> impl Iterator<Item = &oci_spec::runtime::Mount> {
    plan.spec.mounts().iter().flatten().filter(|mount| {
        let bound = |option: &String| option == "bind" || option == "rbind";
        mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(bound)
    })
}

/// A public key that receipts are verified by.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    id: String,
}

impl PublicKey {
    /// Reads a PEM file, as `palisade receipt keygen` and `openssl pkey -pubout` write it.
    ///
    /// # Errors
    ///
    /// [`Error::ReceiptKey`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MOST as u64).read_to_string(&mut text))
            .map_err(|error| wrong(path, &said(&error)))?;
        let key = VerifyingKey::from_public_key_pem(text.trim_ascii_start())
            .map_err(|_| wrong(path, &"it holds no Ed25519 public key in PEM"))?;
        Ok(Self { id: id(&key), key })
    }

    /// SHA-256 of the key's DER form, with `sha256:` before it: what a signed receipt names its key by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the signature is this key's, of exactly this message.
    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        // Strict: no other bytes pass for the same signature.
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

/// Makes a key pair: the private key in a new file that its owner alone may read, the public key beside it in FILE.pub.
///
/// # Errors
///
/// [`Error::ReceiptKey`] where a file exists already or cannot be written; neither is then changed.
pub fn generate(path: &Path) -> Result<PathBuf, Error> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(seed.as_mut()))
        .map_err(|error| wrong(Path::new("/dev/urandom"), &said(&error)))?;
    let key = SigningKey::from_bytes(&seed);
    // Without the public key in it, as openssl before 3.5 reads no other.
    let pair = KeypairBytes {
        secret_key: *seed,
        public_key: None,
    };
    let malformed = |_| wrong(path, &"a key could not be encoded");
    let private = pair.to_pkcs8_pem(LineEnding::LF).map_err(malformed)?;
    let public = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|_| wrong(path, &"a key could not be encoded"))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    let write = |path: &Path, mode: u32, text: &str| {
        File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| wrong(path, &said(&error)))
    };
    write(&beside, 0o644, &public)?;
    write(path, 0o600, &private).inspect_err(|_| drop(fs::remove_file(&beside)))?;
    Ok(beside)
}

fn id(key: &VerifyingKey) -> String {
    // The document of a valid key always encodes.
    let der = key.to_public_key_der().map(|der| der.as_bytes().to_vec());
    canonical::written(Sha256::digest(der.unwrap_or_default()).into())
}

fn wrong(path: &Path, why: &dyn Display) -> Error {
    Error::ReceiptKey {
        path: path.into(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::{KeyFile, PublicKey, generate};

    fn pair() -> (tempfile::TempDir, PathBuf, PublicKey) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let public = PublicKey::read(&generate(&path).unwrap()).unwrap();
        (directory, path, public)
    }

    #[test]
    fn a_made_key_signs_what_its_public_half_verifies_and_nothing_else() {
        let (_directory, path, public) = pair();
        let signed = KeyFile::open(&path).unwrap().sign(b"message").unwrap();
        assert_eq!(signed.key, public.id());
        assert!(public.holds(b"message", &signed.signature));
        assert!(!public.holds(b"massage", &signed.signature));
        let mut other = signed.signature;
        other[63] ^= 1;
        assert!(!public.holds(b"message", &other));
        assert!(!public.holds(b"message", &signed.signature[..63]));
    }

    #[test]
    fn a_private_key_is_its_owners_alone_and_none_is_overwritten() {
        let (_directory, path, _) = pair();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let before = fs::read(&path).unwrap();
        assert!(generate(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let (directory, path, _) = pair();
        let public = directory.path().join("key.pem.pub");
        for odd in [directory.path(), &public, &directory.path().join("none")] {
            let error = KeyFile::open(odd).unwrap_err();
            assert!(error.to_string().contains(&odd.display().to_string()));
            assert!(error.advice().is_some());
        }
        assert!(PublicKey::read(&path).is_err());
    }
}
