//! One request to one address: connections, time limits, proxies. What a registry means by its answers is not known here.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ureq::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, Proxy, SendBody};

use super::options::Options;
use super::trust::Trust;
use super::{transport, verifier};
use crate::error::{Error, Result};

/// Connections to hosts, kept open between requests.
#[derive(Debug)]
pub(super) struct Http {
    agents: Mutex<HashMap<(String, bool), Agent>>,
    trust: Trust,
    connect: Duration,
    idle: Duration,
    proxies: Proxies,
    state: Mutex<State>,
    stop: Condvar,
}

/// Whether there are to be connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Not until all that are under way have ended.
    BrokenOff,
    /// Never again.
    Stopped,
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) struct Fault {
    /// In words.
    pub reason: String,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// Nobody listens, or the host is unknown.
    Unreachable,
    /// The connection broke, or nothing came for too long: worth another try.
    Broken,
    /// What answered does not speak TLS.
    NotTls,
    /// The certificate is not believed.
    Certificate,
    /// The request cannot be made.
    Other,
}

/// What goes with a request.
pub(super) struct Payload<'a> {
    pub reader: &'a mut dyn Read,
    pub length: u64,
}

impl Http {
    pub(super) fn new(options: &Options) -> Result<Self> {
        Ok(Self {
            agents: Mutex::default(),
            trust: Trust::new(options.certificates.clone(), &options.ca_files)?,
            connect: options.connect,
            idle: options.idle,
            proxies: Proxies::new(options),
            state: Mutex::new(State::Running),
            stop: Condvar::new(),
        })
    }

    /// Breaks every connection off and lets no other come into being, ever.
    pub(super) fn stop(&self) {
        self.end(State::Stopped);
    }

    /// Breaks every connection off and lets no other come into being until [`Http::go_on`].
    pub(super) fn break_off(&self) {
        self.end(State::BrokenOff);
    }

    /// Allows connections again, once nobody is left of those that were broken off; after a stop it does nothing.
    pub(super) fn go_on(&self) {
        let mut state = lock(&self.state);
        if *state == State::BrokenOff {
            // What was shut down stays so.
            lock(&self.agents).clear();
            *state = State::Running;
        }
    }

    fn end(&self, how: State) {
        let mut state = lock(&self.state);
        if *state != State::Stopped {
            *state = how;
        }
        drop(state);
        self.stop.notify_all();
        for agent in lock(&self.agents).values() {
            agent.clone().shutdown();
        }
    }

    /// Waits, unless stopped or broken off.
    ///
    /// # Errors
    /// [`Error::Interrupted`] then; without a pause it only looks.
    pub(super) fn pause(&self, pause: Duration) -> Result<()> {
        let state = lock(&self.state);
        let (state, _) = self
            .stop
            .wait_timeout_while(state, pause, |state| *state == State::Running)
            .unwrap_or_else(PoisonError::into_inner);
        if *state != State::Running {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// The proxy that leads to an address, as `host:port`.
    pub(super) fn proxy(&self, address: &Uri) -> Option<String> {
        let proxy = self.proxies.of(address).ok()??;
        Some(format!("{}:{}", proxy.host(), proxy.port()))
    }

    /// Makes one request; redirections and errors of the server are answers like others.
    pub(super) fn send(
        &self,
        method: &Method,
        address: &Uri,
        verify: bool,
        headers: &HeaderMap,
        payload: Option<Payload<'_>>,
    ) -> Result<std::result::Result<Response<Body>, Fault>> {
        self.pause(Duration::ZERO)?;
        let agent = self.agent(address, verify)?;
        let mut request = Request::builder()
            .method(method.clone())
            .uri(address.clone());
        if let Some(all) = request.headers_mut() {
            all.extend(headers.clone());
            all.entry("user-agent")
                .or_insert(HeaderValue::from_static(concat!(
                    "palisade/",
                    env!("CARGO_PKG_VERSION")
                )));
            // A blob is hashed as it is stored: it must not be packed once more on the way.
            all.insert("accept-encoding", HeaderValue::from_static("identity"));
            if let Some(payload) = &payload {
                all.insert("content-length", HeaderValue::from(payload.length));
            } else if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                all.insert("content-length", HeaderValue::from(0));
            }
        }
        let sent = match payload {
            None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                let empty: &[u8] = b"";
                request
                    .body(empty)
                    .map_err(ureq::Error::from)
                    .and_then(|request| agent.run(request))
            }
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| agent.run(request)),
            Some(payload) => request
                .body(SendBody::from_reader(payload.reader))
                .map_err(ureq::Error::from)
                .and_then(|request| agent.run(request)),
        };
        Ok(sent.map_err(|error| Fault::of(&error)))
    }

    fn agent(&self, address: &Uri, verify: bool) -> Result<Agent> {
        let host = address.authority().map_or("", |a| a.as_str());
        let secure = address.scheme_str() != Some("http");
        let key = (format!("{secure}/{host}"), verify);
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(self.connect))
            .timeout_recv_response(Some(self.idle))
            .timeout_per_read(Some(self.idle))
            .timeout_per_write(Some(self.idle))
            .max_response_header_size(64 << 10)
            .proxy(self.proxies.of(address)?);
        let agent = if secure {
            let certificates = self.trust.config(host, verify)?;
            let connector = transport::connector(certificates);
            Agent::with_parts(config.build(), connector, DefaultResolver::default())
        } else {
            config.build().into()
        };
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

impl Fault {
    fn of(error: &ureq::Error) -> Self {
        let (kind, reason) = match error {
            ureq::Error::Timeout(_) => (FaultKind::Broken, "it did not answer in time".to_owned()),
            ureq::Error::HostNotFound => (FaultKind::Unreachable, "the host is unknown".to_owned()),
            ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
                (FaultKind::Unreachable, error.to_string())
            }
            ureq::Error::Rustls(error) => of_tls(error),
            ureq::Error::Io(error) => Self::of_io(error),
            ureq::Error::BodyStalled | ureq::Error::Protocol(_) => (
                FaultKind::Broken,
                format!("what it sent is not HTTP ({error})"),
            ),
            _ => (FaultKind::Other, error.to_string()),
        };
        Self { reason, kind }
    }

    fn of_io(error: &std::io::Error) -> (FaultKind, String) {
        use std::io::ErrorKind as Kind;
        if let Some(inner) = error.get_ref() {
            if let Some(inner) = inner.downcast_ref::<rustls::Error>() {
                return of_tls(inner);
            }
            if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
                let fault = Self::of(inner);
                return (fault.kind, fault.reason);
            }
        }
        match error.kind() {
            Kind::ConnectionRefused => (FaultKind::Unreachable, "nobody listens there".to_owned()),
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
                (FaultKind::Unreachable, "there is no way to it".to_owned())
            }
            Kind::TimedOut | Kind::WouldBlock => {
                (FaultKind::Broken, "it did not answer in time".to_owned())
            }
            Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected => (FaultKind::Broken, "the connection broke".to_owned()),
            _ => (FaultKind::Other, error.to_string()),
        }
    }

    /// Why a body could not be read to its end.
    pub(super) fn of_body(error: &std::io::Error) -> Self {
        let (kind, reason) = Self::of_io(error);
        Self { reason, kind }
    }
}

fn of_tls(error: &rustls::Error) -> (FaultKind, String) {
    match error {
        rustls::Error::InvalidMessage(_) => (FaultKind::NotTls, "it does not speak TLS".to_owned()),
        rustls::Error::InvalidCertificate(why) => (
            FaultKind::Certificate,
            format!("its certificate is not believed: {}", verifier::words(why)),
        ),
        rustls::Error::AlertReceived(alert) => (
            FaultKind::Certificate,
            format!("it refuses the connection ({alert:?})"),
        ),
        error => (FaultKind::Other, error.to_string()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a server wants to be asked later, and after how long if it says so.
pub(super) struct Later(pub Option<Duration>);

/// Whether an answer tells of something that passes.
pub(super) fn passing(response: &Response<Body>) -> Option<Later> {
    let passes = matches!(
        response.status(),
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    passes.then(|| {
        let text = text_of(response.headers(), &RETRY_AFTER);
        Later(text.and_then(|text| wait(text, SystemTime::now())))
    })
}

/// What `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3), of which a past one asks for nothing.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    text.parse().ok().map(Duration::from_secs).or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).ok()
    })
}

/// A header's value, where it is text.
pub(super) fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads a body that must be small. `what` names it for the error.
pub(super) fn small(
    response: &mut Response<Body>,
    most: u64,
    what: &str,
) -> Result<std::result::Result<Vec<u8>, Fault>> {
    let announced = response.body().content_length();
    let over = || Error::limit(format!("the size of {what}"), format!("{most} bytes"));
    if announced.is_some_and(|length| length > most) {
        return Err(over());
    }
    let mut text = Vec::new();
    let read = response
        .body_mut()
        .as_reader()
        .take(most + 1)
        .read_to_end(&mut text);
    if text.len() as u64 > most {
        return Err(over());
    }
    Ok(read.map(|_| text).map_err(|e| Fault::of_body(&e)))
}

/// Which proxy leads to which host, as curl and docker have it: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.
#[derive(Debug)]
struct Proxies {
    http: Option<String>,
    https: Option<String>,
    none: String,
}

impl Proxies {
    fn new(options: &Options) -> Self {
        let variable = |names: &[&str]| names.iter().find_map(|name| options.variable(name));
        let all = variable(&["all_proxy", "ALL_PROXY"]);
        Self {
            http: variable(&["http_proxy", "HTTP_PROXY"]).or_else(|| all.clone()),
            https: variable(&["https_proxy", "HTTPS_PROXY"]).or(all),
            none: variable(&["no_proxy", "NO_PROXY"]).unwrap_or_default(),
        }
    }

    fn of(&self, address: &Uri) -> Result<Option<Proxy>> {
        let secure = address.scheme_str() != Some("http");
        let host = bare(address.host().unwrap_or_default());
        let port = address.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let text = if secure { &self.https } else { &self.http };
        let Some(text) = text else {
            return Ok(None);
        };
        // This machine is not reached through another.
        if is_loopback(host) || self.none.split(',').any(|rule| excepts(rule, host, port)) {
            return Ok(None);
        }
        Proxy::new(text).map(Some).map_err(|_| Error::Registry {
            doing: "use",
            what: "the proxy that the environment names".to_owned(),
            reason: "it is not an http, https or socks address".to_owned(),
            remedy: "correct HTTPS_PROXY and HTTP_PROXY, or unset them",
        })
    }
}

/// Whether an item of `no_proxy` is about a host: `*`, a domain with all below it, one with a dot before it without itself, an
/// address, a range of addresses; each may have a port.
fn excepts(rule: &str, host: &str, port: u16) -> bool {
    let rule = rule.trim();
    let host = host.to_ascii_lowercase();
    if rule == "*" {
        return true;
    }
    let address: Option<IpAddr> = host.parse().ok();
    if let Some((network, length)) = rule.split_once('/') {
        return address
            .zip(network.parse().ok())
            .zip(length.parse().ok())
            .is_some_and(|((address, network), length)| in_network(address, network, length));
    }
    let rule = rule.to_ascii_lowercase();
    let (name, only) = match rule.rsplit_once(':') {
        Some((name, number)) if !name.contains(':') || name.ends_with(']') => {
            (name, number.parse::<u16>().ok())
        }
        _ => (rule.as_str(), None),
    };
    if name.is_empty() || only.is_some_and(|only| only != port) {
        return false;
    }
    let name = bare(name);
    if address.is_some() {
        return name.parse() == Ok(address.unwrap_or(IpAddr::from([0, 0, 0, 0])));
    }
    let domain = name.trim_start_matches('*');
    let (domain, itself) = match domain.strip_prefix('.') {
        Some(below) => (below, false),
        None => (domain, true),
    };
    let rest = host.strip_suffix(domain);
    rest.is_some_and(|rest| rest.ends_with('.') || (itself && rest.is_empty()))
}

fn in_network(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    match length {
        0 => true,
        length if length <= bits => (address ^ network) >> (bits - length) == 0,
        _ => false,
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether a host, without its port, is this machine (RFC 6761, section 6.3; RFC 6890).
pub(super) fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(variables: &[(&str, &str)], address: &str) -> Option<String> {
        let options = Options {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Options::default()
        };
        let address: Uri = address.parse().unwrap();
        Proxies::new(&options)
            .of(&address)
            .unwrap()
            .map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn a_proxy_is_chosen_by_scheme_and_not_for_hosts_that_need_none() {
        let both = [
            ("HTTP_PROXY", "http://plain:1"),
            ("https_proxy", "http://user:pw@secure:2"),
            (
                "no_proxy",
                "inner.example,.corp, 10.0.0.0/8,[fd00::1]:443,named:81",
            ),
        ];
        assert_eq!(proxy(&both, "http://a.b/"), Some("plain:1".to_owned()));
        assert_eq!(proxy(&both, "https://a.b/"), Some("secure:2".to_owned()));
        assert_eq!(proxy(&both, "https://inner.example/"), None);
        assert_eq!(proxy(&both, "https://below.inner.example/"), None);
        assert_eq!(proxy(&both, "https://x.corp/"), None);
        assert_eq!(proxy(&both, "https://10.1.2.3/"), None);
        assert_eq!(proxy(&both, "https://[fd00::1]/"), None);
        assert_eq!(proxy(&both, "http://named:81/"), None);
        for other in [
            "http://corp/",
            "http://11.1.2.3/",
            "http://named/",
            "http://notinner.example/",
        ] {
            assert_eq!(proxy(&both, other), Some("plain:1".to_owned()), "{other}");
        }
        assert_eq!(proxy(&both, "https://localhost:5000/"), None);
        assert_eq!(proxy(&both, "http://127.0.0.9/"), None);
        let all = [("ALL_PROXY", "http://all:3")];
        assert_eq!(proxy(&all, "https://a.b/"), Some("all:3".to_owned()));
        assert_eq!(proxy(&[], "https://a.b/"), None);
        let options = Options {
            variables: vec![("HTTPS_PROXY".into(), "gopher://x".into())],
            ..Options::default()
        };
        assert!(
            Proxies::new(&options)
                .of(&"https://a.b/".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn loopback_is_told_by_name_and_by_number() {
        for host in [
            "localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "a.localhost",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.com", "128.0.0.1", "localhost.example.com", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_server_says_in_seconds_or_by_a_date_when_to_come_back() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(wait(" 7 ", now), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:50:07 GMT";
        assert_eq!(wait(date, now), Some(Duration::from_secs(30)));
        assert_eq!(wait(date, now + Duration::from_mins(1)), None);
        assert_eq!(wait("soon", now), None);
    }
}
