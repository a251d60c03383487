//! `palisade images`: the images of the store, one line for each name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use clap::ArgMatches;
use palisade_rootfs::{Digest, Name};
use serde_json::Value;

use super::describe::{Described, NONE, all, at, since};
use super::{Place, format_failure, word, words};
use crate::failure::Failure;
use crate::format::{Filters, Key, Listing, Row, Takes, parse_time, size, truth};
use crate::verb::print;

const HEADINGS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
    ("Labels", "LABELS"),
];

const LIST: Listing = Listing {
    headings: HEADINGS,
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet: "{{.ID}}",
};

const DIGESTS: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    ..LIST
};

const SIZES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}",
    ..LIST
};

const KEYS: &[Key] = &[
    Key::new("dangling", Takes::Truth),
    Key::new("label", Takes::Label),
    Key::new("label!", Takes::Label),
    Key::new("before", Takes::Text),
    Key::new("since", Takes::Text),
    Key::new("until", Takes::Text),
    Key::new("reference", Takes::Text),
];

/// `images`, `image ls`.
pub fn main(matches: &ArgMatches) -> Result<u8, Failure> {
    let filters = Filters::parse(words(matches, "filter"), KEYS).map_err(format_failure)?;
    let place = Place::open(matches)?;
    let mut images = all(&place)?;
    keep_matching(&place, &filters, &mut images)?;
    let listing = if matches.get_flag("digests") {
        DIGESTS
    } else {
        LIST
    };
    show(matches, listing, images, matches.get_flag("quiet"))
}

/// `image size`.
pub fn sizes(matches: &ArgMatches) -> Result<u8, Failure> {
    let place = Place::open(matches)?;
    show(matches, SIZES, all(&place)?, false)
}

fn show(
    matches: &ArgMatches,
    listing: Listing,
    mut images: Vec<Described>,
    quiet: bool,
) -> Result<u8, Failure> {
    let shared = Shared::count(&images);
    let name = word(matches, "NAME");
    if !name.is_empty() {
        images.retain(|image| is_called(image, name));
    }
    let full = matches.get_flag("no-trunc");
    let rows: Vec<Row> = images
        .iter()
        .map(|image| row(image, full, &shared))
        .collect();
    let format = matches.get_one::<String>("format").map(String::as_str);
    let format = match format {
        Some("json") => Some("{{json .}}"),
        format => format,
    };
    print(
        &listing
            .print(format, quiet, &rows)
            .map_err(format_failure)?,
    )?;
    Ok(0)
}

fn row(image: &Described, full: bool, shared: &Shared) -> Row {
    let (unique, common) = shared.of(image);
    let text = |bytes| Value::from(size(bytes));
    let values: [Value; 11] = [
        image.repository().into(),
        image.tag().into(),
        image.entry.source_digest().to_string().into(),
        image.id(full).into(),
        since(image.created()).into(),
        at(image.created()),
        text(image.size()),
        text(image.size()),
        text(common),
        text(unique),
        "N/A".into(),
    ];
    let names = HEADINGS.iter().map(|(name, _)| *name);
    let labels = &image.details.config.labels;
    Row::new(names.zip(values)).with_labels(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// How many images have each layer.
struct Shared(BTreeMap<Digest, BTreeSet<Digest>>);

impl Shared {
    fn count(images: &[Described]) -> Self {
        let mut users: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for image in images {
            for &layer in &image.details.diff_ids {
                users.entry(layer).or_default().insert(image.details.id);
            }
        }
        Self(users)
    }

    /// Bytes of an image that no other has, and that others have.
    fn of(&self, image: &Described) -> (u64, u64) {
        let alone = |layer| self.0.get(layer).is_none_or(|users| users.len() < 2);
        let layers = image.details.diff_ids.iter().zip(&image.sizes);
        let (mut unique, mut common) = (0, 0);
        for (layer, size) in layers {
            *(if alone(layer) {
                &mut unique
            } else {
                &mut common
            }) += size;
        }
        (unique, common)
    }
}

fn keep_matching(
    place: &Place,
    filters: &Filters,
    images: &mut Vec<Described>,
) -> Result<(), Failure> {
    let created = |text: &str| -> Result<Option<SystemTime>, Failure> {
        Ok(Described::read(place, place.entry(text)?)?.created())
    };
    let mut before = None;
    for value in filters.values("before") {
        before = created(value)?;
    }
    let mut after = None;
    for value in filters.values("since") {
        after = created(value)?;
    }
    let mut until = None;
    for value in filters.values("until") {
        let time = parse_time("--filter until", value, SystemTime::now());
        until = Some(time.map_err(format_failure)?);
    }
    images.retain(|image| {
        let time = image.created();
        filters.accepts("dangling", |value| {
            truth(value) == Some(image.name.is_none())
        }) && filters.labels(|label| image.label(label))
            && filters.accepts("reference", |pattern| is_called(image, pattern))
            && before.is_none_or(|before| time.is_some_and(|time| time < before))
            && after.is_none_or(|after| time.is_some_and(|time| time > after))
            && until.is_none_or(|until| time.is_some_and(|time| time < until))
    });
    Ok(())
}

/// Whether an image has a name of that pattern: a repository, or a repository and a tag, short or in full.
fn is_called(image: &Described, pattern: &str) -> bool {
    let Some(name) = &image.name else {
        return false;
    };
    let last = pattern.rsplit('/').next().unwrap_or_default();
    let full = format!("{}/{}", name.registry, name.repository);
    let tagged = |repository: &str| {
        if last.contains('@') {
            format!("{repository}@{}", image.entry.source_digest())
        } else if last.contains(':') {
            format!("{repository}:{}", name.tag.as_deref().unwrap_or(NONE))
        } else {
            repository.to_owned()
        }
    };
    // As it would be completed: `index.docker.io/x` and `docker.io/x` mean the same.
    let completed = Name::parse(pattern).ok();
    completed.is_some_and(|completed| {
        completed.registry == name.registry
            && completed.repository == name.repository
            && (!last.contains(':') || completed.tag == name.tag)
            && completed
                .digest
                .is_none_or(|digest| digest == image.entry.source_digest())
    }) || matches_glob(pattern, &tagged(&name.familiar()))
        || matches_glob(pattern, &tagged(&full))
}

/// `*` and `?` stand for anything but a slash, `[a-z]` for one of a set (Go's path.Match).
fn matches_glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // Where to go on after the last star: it stands for one character more then.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') if text[t] != '/' => Some(p + 1),
            Some('[') => one_of(&pattern, p, text[t]),
            Some(&c) if c == text[t] => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, from))) if text[from] != '/' => {
                star = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// Whether `c` is in the set that begins at `at`; then where the pattern goes on.
fn one_of(pattern: &[char], at: usize, c: char) -> Option<usize> {
    let end = at + 1 + pattern[at + 1..].iter().position(|&c| c == ']')?;
    let set = &pattern[at + 1..end];
    let (negated, set) = match set {
        ['^', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut found = false;
    let mut rest = set;
    while let [first, more @ ..] = rest {
        if let ['-', last, more @ ..] = more {
            found |= (*first..=*last).contains(&c);
            rest = more;
        } else {
            found |= *first == c;
            rest = more;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn patterns_match_as_go_s_path_match_does() {
        for (pattern, text, matches) in [
            ("busybox", "busybox", true),
            ("busy*", "busybox", true),
            ("*box", "busybox", true),
            ("b*y*x", "busybox", true),
            ("b?sybox", "busybox", true),
            ("*", "me/app", false),
            ("*/*", "me/app", true),
            ("me/a[a-q]p", "me/app", true),
            ("me/a[^a-q]p", "me/app", false),
            ("busy", "busybox", false),
            ("busybox*x", "busybox", false),
            ("*:1.*", "app:1.2", true),
            ("[", "[", false),
            ("", "", true),
        ] {
            assert_eq!(matches_glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
