//! A receipt made fast: by its digest, and by a signature as an in-toto Statement in a DSSE envelope.
//!
//! Statement: <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>. Envelope and what exactly is signed:
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>.

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use super::key::{KeyFile, PublicKey};
use super::{SCHEMA, canonical};
use crate::Error;

/// What the payload of an envelope is.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Names a receipt among predicates; the number is that of the receipt's schema.
const PREDICATE_TYPE: &str = "urn:palisade:receipt:1";

/// Adds the digest, and wraps the receipt in a signed envelope where there is a key.
pub(crate) fn seal(mut receipt: Value, key: Option<&KeyFile>) -> Result<Value, Error> {
    receipt["digest"] = Value::from(digest(&receipt));
    let Some(key) = key else {
        return Ok(receipt);
    };
    let payload = canonical::text(&statement(&receipt));
    let signed = key.sign(&signed_bytes(payload.as_bytes()))?;
    Ok(json!({
        "payload": Base64::encode_string(payload.as_bytes()),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signed.key, "sig": Base64::encode_string(&signed.signature)}],
    }))
}

/// The digest of a receipt, with or without one in it.
pub(crate) fn digest(receipt: &Value) -> String {
    let mut bare = receipt.clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("digest");
    }
    canonical::digest(&bare)
}

/// The receipt as what an in-toto Statement says of its subjects: itself, and the image where that has a digest.
fn statement(receipt: &Value) -> Value {
    let subject = |name: &Value, digest: &Value| {
        let (algorithm, digits) = digest.as_str()?.split_once(':')?;
        let name = name.as_str().unwrap_or("receipt");
        Some(json!({"name": name, "digest": {algorithm: digits}}))
    };
    let image = &receipt["image"];
    let itself = subject(&receipt["id"], &receipt["digest"]);
    let image = subject(&image["reference"], &image["manifest"]);
    json!({
        "_type": STATEMENT_TYPE,
        "subject": itself.into_iter().chain(image).collect::<Vec<_>>(),
        "predicateType": PREDICATE_TYPE,
        "predicate": receipt,
    })
}

/// DSSE's pre-authentication encoding: what is signed.
fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// A sealed receipt taken apart.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) receipt: Value,
    /// The id of the key that its envelope names.
    pub(crate) key: Option<String>,
    /// What is wrong with it.
    pub(crate) faults: Vec<String>,
}

/// Checks everything about a receipt, or the envelope around one, that can be checked by itself.
///
/// # Errors
///
/// A sentence about what is neither.
pub(crate) fn open(document: Value, key: Option<&PublicKey>) -> Result<Sealed, String> {
    let mut faults = Vec::new();
    let (receipt, signer) = if document.get("payloadType").is_some() {
        let (receipt, signer) = unwrap(&document, key, &mut faults)?;
        (receipt, Some(signer))
    } else {
        (document, None)
    };
    if receipt["schema"] != SCHEMA {
        return Err(match receipt["schema"].as_str() {
            Some(schema) => format!("its schema is {schema:?}, and this palisade knows {SCHEMA}"),
            None => "it is no receipt".to_owned(),
        });
    }
    if receipt["digest"] != digest(&receipt) {
        faults.push("its content is not what its digest says: it was changed".to_owned());
    }
    if let (Some(key), None) = (key, &signer) {
        faults.push(format!("it is not signed, and should be by {}", key.id()));
    }
    Ok(Sealed {
        receipt,
        key: signer,
        faults,
    })
}

/// The receipt in an envelope, and the id of the key that it names.
fn unwrap(
    envelope: &Value,
    key: Option<&PublicKey>,
    faults: &mut Vec<String>,
) -> Result<(Value, String), String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let decoded = |value: &Value| Base64::decode_vec(value.as_str()?).ok();
    let damaged = |what: &str| format!("its envelope is damaged: {what}");
    if envelope["payloadType"] != PAYLOAD_TYPE {
        return Err(damaged("the type of the payload"));
    }
    let payload = decoded(&envelope["payload"]).ok_or_else(|| damaged("the payload"))?;
    let [signature] = envelope["signatures"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
    else {
        return Err(damaged("there is not one signature"));
    };
    let signer = text(&signature["keyid"]).ok_or_else(|| damaged("the name of the key"))?;
    let bytes = decoded(&signature["sig"]).ok_or_else(|| damaged("the signature"))?;
    if let Some(key) = key {
        if signer != key.id() {
            faults.push(format!("it names {signer} as its key, not {}", key.id()));
        }
        if !key.holds(&signed_bytes(&payload), &bytes) {
            faults.push(format!("its signature is not that of {}", key.id()));
        }
    }
    let statement: Value =
        serde_json::from_slice(&payload).map_err(|_| damaged("the payload is no JSON"))?;
    let receipt = statement["predicate"].clone();
    if canonical::text(&self::statement(&receipt)).as_bytes() != payload {
        faults.push("its statement is not what palisade makes of the receipt in it".to_owned());
    }
    Ok((receipt, signer))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{SCHEMA, open, seal, signed_bytes};
    use crate::receipt::canonical;
    use crate::receipt::key::{KeyFile, PublicKey, generate};

    fn receipt() -> Value {
        json!({"schema": SCHEMA, "id": "ab", "image": {"reference": "x", "manifest": "sha256:cd"}})
    }

    #[test]
    fn what_is_signed_is_as_dsse_says() {
        // The form of the protocol's own example, for this payload type.
        assert_eq!(
            signed_bytes(b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }

    #[test]
    fn a_sealed_receipt_opens_without_a_fault_and_a_changed_one_does_not() {
        let sealed = seal(receipt(), None).unwrap();
        assert!(open(sealed.clone(), None).unwrap().faults.is_empty());
        let mut changed = sealed.clone();
        changed["id"] = "abc".into();
        assert_eq!(open(changed, None).unwrap().faults.len(), 1);
        assert!(open(json!({"schema": "other/1"}), None).is_err());
        assert!(open(json!([]), None).is_err());
    }

    #[test]
    fn every_changed_byte_of_a_signed_receipt_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let public = PublicKey::read(&generate(&path).unwrap()).unwrap();
        let key = KeyFile::open(&path).unwrap();
        let text = canonical::text(&seal(receipt(), Some(&key)).unwrap());
        let good = |bytes: &[u8]| {
            serde_json::from_slice::<Value>(bytes).is_ok_and(|value| {
                canonical::text(&value).as_bytes() == bytes
                    && open(value, Some(&public)).is_ok_and(|sealed| sealed.faults.is_empty())
            })
        };
        assert!(good(text.as_bytes()));
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            assert!(!good(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn an_unsigned_receipt_is_not_good_where_a_signature_is_demanded() {
        let directory = tempfile::tempdir().unwrap();
        let public = generate(&directory.path().join("key")).unwrap();
        let public = PublicKey::read(&public).unwrap();
        let sealed = seal(receipt(), None).unwrap();
        assert_eq!(open(sealed, Some(&public)).unwrap().faults.len(), 1);
    }
}
