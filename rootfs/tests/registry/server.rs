//! A registry in this process that does what a test wants: whole, or broken in one way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use palisade_rootfs::{Digest, manifest::media_type};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The offset a `Range` asks for.
    pub fn from(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=");
        range
            .and_then(|range| range.trim_end_matches('-').parse().ok())
            .unwrap_or(0)
    }
}

/// What is answered.
pub(crate) struct Reply {
    /// 0 breaks the connection before anything is said.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What Content-Length says; none for the truth.
    pub length: Option<usize>,
    /// How many bytes of the body are sent before the connection breaks.
    pub cut: Option<usize>,
    /// Nothing more is sent, and the connection stays.
    pub silent: bool,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
        length: None,
        cut: None,
        silent: false,
    }
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }

    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    pub fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }
}

type Hook = dyn FnMut(&Request, &Contents) -> Option<Reply> + Send;

/// What a registry holds.
#[derive(Default)]
pub(crate) struct Contents {
    /// By `repository` and digest.
    pub blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By `repository` and tag or digest, with the media type.
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// Uploads that are under way.
    pub uploads: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    contents: Mutex<Contents>,
    log: Mutex<Vec<Request>>,
    hook: Mutex<Option<Box<Hook>>>,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A registry that is gone with this.
pub(crate) struct Server {
    shared: Arc<Shared>,
    pub port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.over.load(Ordering::Relaxed) {
                    return;
                }
                let (own, Ok(stream)) = (Arc::clone(&own), stream) else {
                    continue;
                };
                lock(&own.open).extend(stream.try_clone());
                std::thread::spawn(move || serve(&own, &stream));
            }
        });
        Self {
            shared,
            port,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:PORT/rest`.
    pub fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }

    pub fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers in place of the registry where it gives a reply.
    pub fn hook(&self, hook: impl FnMut(&Request, &Contents) -> Option<Reply> + Send + 'static) {
        *lock(&self.shared.hook) = Some(Box::new(hook));
    }

    pub fn unhook(&self) {
        *lock(&self.shared.hook) = None;
    }

    pub fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.shared.contents)
    }

    /// The requests so far whose method and path contain the words.
    pub fn log(&self, method: &str, word: &str) -> Vec<Request> {
        let log = lock(&self.shared.log);
        let wanted = |r: &&Request| r.method == method && r.path.contains(word);
        log.iter().filter(wanted).cloned().collect()
    }

    pub fn requests(&self) -> usize {
        lock(&self.shared.log).len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // So that accept returns.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let thread = self.thread.take().unwrap();
        thread.join().unwrap();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection. What is not HTTP ends it, as a TLS greeting does.
fn serve(shared: &Shared, stream: &TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        lock(&shared.log).push(request.clone());
        let hooked = {
            let mut hook = lock(&shared.hook);
            let contents = lock(&shared.contents);
            hook.as_mut().and_then(|hook| hook(&request, &contents))
        };
        let reply = hooked.unwrap_or_else(|| lock(&shared.contents).answer(&request));
        if reply.silent && reply.cut.is_none() {
            // Until the server is over, or the other side has had enough.
            let _ = reader.read(&mut [0]);
            break;
        }
        if reply.status == 0 {
            break;
        }
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        if reply
            .headers
            .iter()
            .all(|(name, _)| name != "transfer-encoding")
        {
            let _ = write!(head, "content-length: {length}\r\n");
        }
        for (name, value) in &reply.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut out = stream;
        if out.write_all(head.as_bytes()).is_err() {
            break;
        }
        let end = reply.cut.unwrap_or(usize::MAX).min(reply.body.len());
        if request.method != "HEAD" && out.write_all(&reply.body[..end]).is_err() {
            break;
        }
        if reply.silent {
            let _ = reader.read(&mut [0]);
            break;
        }
        if reply.cut.is_some() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    if words.next() != Some("HTTP/1.1") {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = value.trim().to_owned();
        headers.insert(name.to_ascii_lowercase(), value);
    }
    let length = headers
        .get("content-length")
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

impl Contents {
    /// What a sound registry answers.
    pub fn answer(&mut self, request: &Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/v2/" {
            return reply(200, "{}");
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return reply(404, "");
        };
        if let Some((repository, tag)) = rest.split_once("/manifests/") {
            return self.manifest(request, repository, tag);
        }
        if let Some((repository, upload)) = rest.split_once("/blobs/uploads/") {
            return self.upload(request, repository, upload, query);
        }
        let Some((repository, digest)) = rest.split_once("/blobs/") else {
            return reply(404, "");
        };
        let key = (repository.to_owned(), digest.to_owned());
        match self.blobs.get(&key) {
            None => reply(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
            Some(blob) => range(request, blob),
        }
    }

    fn manifest(&mut self, request: &Request, repository: &str, tag: &str) -> Reply {
        let key = |tag: &str| (repository.to_owned(), tag.to_owned());
        if request.method == "PUT" {
            let digest = Digest::of(&request.body).to_string();
            let kept = (
                request.header("content-type").to_owned(),
                request.body.clone(),
            );
            self.manifests.insert(key(tag), kept.clone());
            self.manifests.insert(key(&digest), kept);
            return reply(201, "").header("docker-content-digest", digest);
        }
        match self.manifests.get(&key(tag)) {
            None => reply(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
            Some((kind, text)) => reply(200, text.clone())
                .header("content-type", kind)
                .header("docker-content-digest", Digest::of(text).to_string()),
        }
    }

    fn upload(&mut self, request: &Request, repository: &str, upload: &str, query: &str) -> Reply {
        let field = |name: &str| {
            let found = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        let place = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}?state=x");
        match request.method.as_str() {
            "POST" => {
                if let (Some(digest), Some(from)) = (field("mount"), field("from"))
                    && let Some(blob) = self.blobs.get(&(from, digest.clone())).cloned()
                {
                    self.blobs.insert((repository.to_owned(), digest), blob);
                    return reply(201, "");
                }
                let id = format!("u{}", self.uploads.len());
                self.uploads.insert(id.clone(), Vec::new());
                reply(202, "").header("location", place(&id))
            }
            "PATCH" => {
                let held = self.uploads.get_mut(upload).unwrap();
                held.extend_from_slice(&request.body);
                reply(202, "")
                    .header("location", place(upload))
                    .header("range", format!("0-{}", held.len() - 1))
            }
            "GET" => {
                let held = &self.uploads[upload];
                reply(204, "")
                    .header("location", place(upload))
                    .header("range", format!("0-{}", held.len().saturating_sub(1)))
            }
            "PUT" => {
                let mut held = self.uploads.remove(upload).unwrap();
                held.extend_from_slice(&request.body);
                let digest = field("digest").unwrap();
                if Digest::of(&held).to_string() != digest {
                    return reply(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.insert((repository.to_owned(), digest), held);
                reply(201, "")
            }
            _ => reply(405, ""),
        }
    }

    /// Puts an image in, under a tag and its digest; returns its manifest's digest.
    pub fn put(&mut self, repository: &str, tag: &str, image: &crate::Packed) -> Digest {
        for blob in image.layers.iter().chain([&image.config]) {
            let key = (repository.to_owned(), Digest::of(blob).to_string());
            self.blobs.insert(key, blob.clone());
        }
        self.document(repository, tag, media_type::OCI_MANIFEST, &image.manifest)
    }

    /// Puts a manifest or index in.
    pub fn document(&mut self, repository: &str, tag: &str, kind: &str, text: &[u8]) -> Digest {
        let digest = Digest::of(text);
        for tag in [tag, &digest.to_string()] {
            let key = (repository.to_owned(), tag.to_owned());
            self.manifests.insert(key, (kind.to_owned(), text.to_vec()));
        }
        digest
    }
}

/// A blob, from where it is asked for.
pub(crate) fn range(request: &Request, blob: &[u8]) -> Reply {
    match request.from() {
        0 => reply(200, blob),
        from => reply(206, &blob[from..]).header(
            "content-range",
            format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()),
        ),
    }
}
