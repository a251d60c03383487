//! Content on its way into the store: from sources that break off, lie, or come several at a time.

#![allow(missing_docs)]

mod support;

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use palisade_rootfs::{
    Descriptor, Digest, Error, Name, Open, Ownership, Platform, Reference, Store, Taken, manifest,
};
use serde_json::{Value, json};
use support::{Tar, gzip, names};

struct Scene {
    dir: tempfile::TempDir,
}

/// An image in memory.
struct Packed {
    layers: Vec<Vec<u8>>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    descriptor: Descriptor,
}

impl Packed {
    fn new(tars: &[Vec<u8>]) -> Self {
        let layers: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
        let ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = json!({"os": "linux", "architecture": Platform::host().architecture,
            "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = config.to_string().into_bytes();
        let described =
            |layer: &Vec<u8>| Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", layer);
        let manifest = json!({"schemaVersion": 2,
            "config": Descriptor::of(manifest::media_type::OCI_CONFIG, &config),
            "layers": layers.iter().map(described).collect::<Vec<_>>()});
        let manifest = manifest.to_string().into_bytes();
        Self {
            descriptor: Descriptor::of(manifest::media_type::OCI_MANIFEST, &manifest),
            layers,
            config,
            manifest,
        }
    }
}

impl Scene {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.path("store/images/blobs/sha256").join(digest.hex())
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("store/images/index.json")).unwrap()).unwrap()
    }

    /// Takes an image in from memory and names it.
    fn take(&self, image: &Packed, name: &str) {
        let store = self.store();
        let intake = store.intake().unwrap();
        let incoming = intake
            .image(&image.descriptor, &image.manifest, &image.config)
            .unwrap();
        for (i, layer) in image.layers.iter().enumerate() {
            incoming
                .layer(i, Ownership::Caller, &mut |at| {
                    Ok(Box::new(from(layer, at)))
                })
                .unwrap();
        }
        incoming
            .publish(None, &[Name::parse(name).unwrap()])
            .unwrap();
    }
}

fn from(bytes: &[u8], at: u64) -> &[u8] {
    &bytes[usize::try_from(at).unwrap()..]
}

fn tar(name: &str) -> Vec<u8> {
    Tar::default().file(name, name.repeat(100)).end()
}

fn resolve(store: &Store, text: &str) -> Result<palisade_rootfs::Image, Error> {
    store.resolve(
        &Reference::parse(text).unwrap(),
        &Platform::host(),
        Ownership::Caller,
    )
}

/// Gives some bytes, then an error.
struct Breaking<'a>(&'a [u8]);

impl Read for Breaking<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out) {
            Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
            result => result,
        }
    }
}

#[test]
fn an_image_that_was_taken_in_is_unpacked_named_and_found_in_every_way() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a"), tar("b")]);
    scene.take(&image, "busybox");
    // Both layers were unpacked on their way in: their blobs are not needed.
    assert_eq!(names(&scene.path("store/layers")).len(), 2);
    for layer in &image.layers {
        fs::remove_file(scene.blob(Digest::of(layer))).unwrap();
    }
    let id = Digest::of(&image.config);
    for text in [
        "busybox",
        "docker.io/library/busybox:latest",
        &format!("busybox@{}", image.descriptor.digest),
        &format!("other@{}", image.descriptor.digest),
        &id.hex(),
        &id.to_string(),
        &id.hex()[..12],
        &image.descriptor.digest.hex()[..12],
    ] {
        let found = resolve(&scene.store(), text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(found.config_digest, Some(id), "{text}");
        assert_eq!(found.layers.len(), 2);
    }
    for text in ["busybox:1", "me/busybox", "fedcba"] {
        assert!(
            matches!(resolve(&scene.store(), text), Err(Error::NotInStore { .. })),
            "{text} was found"
        );
    }
    assert!(names(&scene.path("store/partial")).is_empty());
}

#[test]
fn a_source_that_breaks_off_is_gone_on_with_where_it_broke() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    let layer = &image.layers[0];
    let half = layer.len() / 2;
    let opened = RefCell::new(Vec::new());
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let error = incoming
        .layer(0, Ownership::Caller, &mut |at| {
            opened.borrow_mut().push(at);
            Ok(Box::new(Breaking(&layer[..half])))
        })
        .unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionReset),
        "{error}"
    );
    assert!(names(&scene.path("store/layers")).is_empty());
    assert!(incoming.publish(None, &[]).is_err());
    let taken = incoming
        .layer(0, Ownership::Caller, &mut |at| {
            opened.borrow_mut().push(at);
            Ok(Box::new(from(layer, at)))
        })
        .unwrap();
    assert_eq!(taken, Taken::Now);
    assert_eq!(*opened.borrow(), [0, half as u64]);
    assert_eq!(names(&scene.path("store/layers")).len(), 1);
    assert_eq!(fs::read(scene.blob(Digest::of(layer))).unwrap(), *layer);
    incoming.publish(None, &[]).unwrap();
}

/// Fails with an error of its own.
struct Failing;
impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(Error::Unsupported {
            what: "the wire".to_owned(),
            remedy: "",
        }))
    }
}
#[test]
fn an_error_of_the_source_is_reported_as_it_is() {
    let scene = Scene::new();
    let store = scene.store();
    let intake = store.intake().unwrap();
    let error = intake
        .blob(Digest::of(b"x"), 1, &mut |_| {
            Ok(Box::new(Failing) as Box<dyn Read>)
        })
        .unwrap_err();
    assert_eq!(error.to_string(), "the wire is not supported");
}

#[test]
fn content_that_is_not_what_was_promised_is_not_kept() {
    let scene = Scene::new();
    let store = scene.store();
    let intake = store.intake().unwrap();
    let good = b"hello world".as_slice();
    let digest = Digest::of(good);
    let take = |size: u64, source: &'static [u8]| {
        intake
            .blob(digest, size, &mut |at| Ok(Box::new(from(source, at))))
            .map_err(|e| e.to_string())
    };
    assert!(
        take(11, b"hello w0rld")
            .unwrap_err()
            .contains("expected sha256")
    );
    assert!(names(&scene.path("store/partial")).is_empty());
    assert!(take(11, b"hello world!").unwrap_err().contains("12 bytes"));
    assert!(take(12, b"hello world").unwrap_err().contains("11 of 12"));
    // A part that was kept under a wrong promise is dropped under the right one.
    assert_eq!(take(11, b"hello world"), Ok(Taken::Now));
    assert_eq!(take(11, b"never read"), Ok(Taken::Present));
    assert!(names(&scene.path("store/partial")).is_empty());
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_neither_kept_nor_unpacked() {
    let scene = Scene::new();
    let mut image = Packed::new(&[tar("a")]);
    let other = Packed::new(&[tar("b")]);
    // The configuration of one, the layer of the other.
    let mut manifest: Value = serde_json::from_slice(&other.manifest).unwrap();
    manifest["config"] = json!(Descriptor::of(
        manifest::media_type::OCI_CONFIG,
        &image.config
    ));
    image.manifest = manifest.to_string().into_bytes();
    image.descriptor = Descriptor::of(manifest::media_type::OCI_MANIFEST, &image.manifest);
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let error = incoming
        .layer(0, Ownership::Caller, &mut |at| {
            Ok(Box::new(from(&other.layers[0], at)))
        })
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    for dir in ["partial", "layers"] {
        assert!(names(&scene.path("store").join(dir)).is_empty(), "{dir}");
    }
    assert!(!incoming.has(0));
}

/// Two layers, the upper of which links to a file of the lower one.
fn linked() -> Packed {
    Packed::new(&[
        Tar::default().file("a", "x").end(),
        Tar::default().hardlink("b", "a").end(),
    ])
}

#[test]
fn a_layer_that_needs_those_beneath_is_kept_packed_and_unpacked_later() {
    let scene = Scene::new();
    let image = linked();
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let take = |i: usize| {
        incoming
            .layer(i, Ownership::Caller, &mut |at| {
                Ok(Box::new(from(&image.layers[i], at)))
            })
            .unwrap();
    };
    take(1);
    assert!(names(&scene.path("store/layers")).is_empty());
    assert_eq!(
        fs::read(scene.blob(Digest::of(&image.layers[1]))).unwrap(),
        image.layers[1]
    );
    take(0);
    let name = Name::parse("linked").unwrap();
    incoming.publish(None, &[name]).unwrap();
    let found = resolve(&store, "linked").unwrap();
    assert_eq!(fs::read(found.layers[1].path.join("b")).unwrap(), b"x");
}

/// Says that it is read, or has been, or waits to be told.
struct Watched<'a> {
    rest: &'a [u8],
    at_first: Option<Box<dyn FnOnce() + 'a>>,
    at_last: Option<Box<dyn FnOnce() + 'a>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(first) = self.at_first.take() {
            first();
        }
        let count = self.rest.read(out)?;
        if self.rest.is_empty()
            && let Some(last) = self.at_last.take()
        {
            last();
        }
        Ok(count)
    }
}

#[test]
fn a_layer_waits_for_those_beneath_that_are_still_arriving() {
    let scene = Scene::new();
    let image = linked();
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let (begun, has_begun) = channel();
    let (read, was_read) = channel();
    let was_read = Mutex::new(was_read);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let open: &mut Open<'_> = &mut |_| {
                Ok(Box::new(Watched {
                    rest: &image.layers[0],
                    at_first: Some(Box::new(|| {
                        begun.send(()).unwrap();
                        was_read.lock().unwrap().recv().unwrap();
                    })),
                    at_last: None,
                }))
            };
            incoming.layer(0, Ownership::Caller, open).unwrap();
        });
        has_begun.recv().unwrap();
        let open: &mut Open<'_> = &mut |_| {
            Ok(Box::new(Watched {
                rest: &image.layers[1],
                at_first: None,
                at_last: Some(Box::new(|| read.send(()).unwrap())),
            }))
        };
        incoming.layer(1, Ownership::Caller, open).unwrap();
    });
    assert_eq!(names(&scene.path("store/layers")).len(), 2);
    incoming
        .publish(None, &[Name::parse("linked").unwrap()])
        .unwrap();
    let found = resolve(&store, "linked").unwrap();
    assert_eq!(fs::read(found.layers[1].path.join("b")).unwrap(), b"x");
}

#[test]
fn of_many_takers_of_one_blob_one_opens_the_source() {
    let scene = Scene::new();
    let content = vec![7_u8; 1 << 20];
    let digest = Digest::of(&content);
    let opened = AtomicUsize::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // As another process would: with a store of its own.
                let store = scene.store();
                let intake = store.intake().unwrap();
                barrier.wait();
                intake
                    .blob(digest, content.len() as u64, &mut |at| {
                        opened.fetch_add(1, Ordering::Relaxed);
                        Ok(Box::new(from(&content, at)))
                    })
                    .unwrap();
            });
        }
    });
    assert_eq!(opened.into_inner(), 1);
    assert_eq!(fs::read(scene.blob(digest)).unwrap(), content);
}

#[test]
fn names_that_are_given_at_the_same_time_are_all_there_afterwards() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    scene.take(&image, "first");
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (scene, image, barrier) = (&scene, &image, &barrier);
            scope.spawn(move || {
                let store = scene.store();
                let intake = store.intake().unwrap();
                barrier.wait();
                for j in 0..4 {
                    let name = Name::parse(&format!("app:{i}-{j}")).unwrap();
                    intake.publish(&image.descriptor, None, &[name]).unwrap();
                }
            });
        }
    });
    assert_eq!(scene.store().entries().unwrap().len(), 33);
}

#[test]
fn a_name_moves_and_what_had_it_stays_without_one() {
    let scene = Scene::new();
    let (old, new) = (Packed::new(&[tar("a")]), Packed::new(&[tar("b")]));
    scene.take(&old, "app");
    scene.take(&old, "app:other");
    scene.take(&new, "app");
    // The old image still has its other name.
    assert_eq!(scene.store().entries().unwrap().len(), 2);
    scene.take(&new, "app:other");
    let entries = scene.store().entries().unwrap();
    let mut shown: Vec<_> = entries.iter().map(|e| (e.name(), e.digest)).collect();
    shown.sort();
    let full = "docker.io/library/app";
    assert_eq!(
        shown,
        [
            (None, old.descriptor.digest),
            (Some(&*format!("{full}:latest")), new.descriptor.digest),
            (Some(&*format!("{full}:other")), new.descriptor.digest),
        ]
    );
}

#[test]
fn what_others_have_written_into_the_index_stays() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    scene.take(&image, "mine");
    let mut index = scene.index();
    let theirs = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.descriptor.digest,
        "size": image.descriptor.size, "data": "e30=", "annotations": {
            "org.opencontainers.image.ref.name": "theirs", "com.example.note": "hello"}});
    index["manifests"]
        .as_array_mut()
        .unwrap()
        .push(theirs.clone());
    index["annotations"] = json!({"com.example.whole": "yes"});
    fs::write(scene.path("store/images/index.json"), index.to_string()).unwrap();
    // A bare name, as other tools write it, is found by docker's reading of it.
    assert!(resolve(&scene.store(), "theirs").is_ok());
    scene.take(&image, "second");
    let index = scene.index();
    assert!(index["manifests"].as_array().unwrap().contains(&theirs));
    assert_eq!(index["annotations"]["com.example.whole"], "yes");
}

#[test]
fn an_image_with_a_part_missing_gets_no_name() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let error = incoming
        .publish(None, &[Name::parse("x").unwrap()])
        .unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(store.entries().unwrap().is_empty());
}

#[test]
fn the_digest_of_the_index_an_image_was_chosen_from_is_found_too() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    scene.take(&image, "x");
    let store = scene.store();
    let source = Digest::of(b"the index");
    let intake = store.intake().unwrap();
    let name = Name::parse(&format!("x@{source}")).unwrap();
    intake
        .publish(&image.descriptor, Some(source), &[name])
        .unwrap();
    let found = resolve(&store, &format!("x@{source}")).unwrap();
    assert_eq!(found.manifest_digest, Some(image.descriptor.digest));
}

#[test]
fn a_truncated_index_is_an_error_that_names_it_and_is_never_overwritten() {
    let scene = Scene::new();
    let image = Packed::new(&[tar("a")]);
    scene.take(&image, "x");
    let path = scene.path("store/images/index.json");
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let store = scene.store();
    let intake = store.intake().unwrap();
    let name = Name::parse("y").unwrap();
    let error = intake
        .publish(&image.descriptor, None, &[name])
        .unwrap_err();
    assert!(error.to_string().contains("index.json"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), text[..text.len() / 2]);
    assert!(resolve(&store, "x").is_err());
}

#[test]
fn the_files_of_a_layer_are_there_before_its_last_byte_is() {
    let scene = Scene::new();
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| next()).collect();
    let tar = Tar::default().file("first", "x").file("noise", noise).end();
    let image = Packed::new(std::slice::from_ref(&tar));
    let store = scene.store();
    let intake = store.intake().unwrap();
    let incoming = intake
        .image(&image.descriptor, &image.manifest, &image.config)
        .unwrap();
    let part = format!("store/layers/.{}.part", Digest::of(&tar).hex());
    let first = scene.path(&part).join("first");
    let seen = AtomicUsize::new(0);
    let open: &mut Open<'_> = &mut |_| {
        Ok(Box::new(Watched {
            rest: &image.layers[0],
            at_first: None,
            at_last: Some(Box::new(|| {
                let begun = Instant::now();
                while !first.exists() && begun.elapsed() < Duration::from_mins(1) {
                    std::thread::yield_now();
                }
                seen.fetch_add(usize::from(first.exists()), Ordering::Relaxed);
            })),
        }))
    };
    incoming.layer(0, Ownership::Caller, open).unwrap();
    assert_eq!(seen.into_inner(), 1);
}
