//! Asking symbol servers: the only file that opens a connection.
//!
//! One request at a time, made on a thread of its own so that Ctrl+C is heard while nothing arrives. A server that
//! does not answer is asked once in a run; a file that a server does not have is asked for once in a run. Who asks is
//! told only to a server that wants to know (status 401): `KD_SYMBOL_TOKEN`, or `KD_SYMBOL_USER` and
//! `KD_SYMBOL_PASSWORD`, or what netrc says for the host; only over TLS or to this machine, and never in a message.
//! `KD_SYMBOL_HOST` names the one host that may be told the variables. What a server sends is judged by `download`.

use super::lock;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Who watches a download.
pub trait Watch: Send + Sync {
    /// So many bytes of so many have come; `total` 0 is "unknown".
    fn progress(&self, done: u64, total: u64, label: &str);
    /// It is over.
    fn finished(&self);
    /// True once the user wants it to stop. Asking does not forget it.
    fn interrupted(&self) -> bool;
    /// A line for a user who wants to know where symbols are looked for.
    fn say(&self, line: &str);
}

/// Why a file did not come.
#[cfg_attr(not(feature = "symsrv"), allow(dead_code))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerError {
    #[error("has no such file")]
    NotThere,
    #[error("refuses to give it (status {0})")]
    Refused(u16),
    #[error(
        "wants to know who asks (status {0}): set KD_SYMBOL_TOKEN, or KD_SYMBOL_USER and KD_SYMBOL_PASSWORD, or write \
         it into netrc"
    )]
    WhoAsks(u16),
    #[error("wants to know who asks, and cannot be told over an open connection; write https://")]
    NotOverOpenConnection,
    #[error("is not asked again in this run: {0}")]
    Dead(String),
    #[error("does not answer: {0}")]
    Silent(String),
    #[error("fails (status {0})")]
    Failing(u16),
    #[error("stopped sending after {done} bytes")]
    Stalled { done: u64 },
    #[error("sent {done} of {total} bytes")]
    Truncated { done: u64, total: u64 },
    #[cfg_attr(not(feature = "symsrv"), allow(dead_code))]
    #[error("is not asked, because whom to trust is not known: {0}")]
    Authorities(String),
    #[error("interrupted")]
    Interrupted,
    #[error("cannot be written down: {0}")]
    Local(String),
    #[cfg_attr(feature = "symsrv", allow(dead_code))]
    #[error("not asked, this kd is built without network")]
    NoNetwork,
}

impl ServerError {
    /// True where the next file would fare no better.
    fn is_of_the_server(&self) -> bool {
        matches!(
            self,
            ServerError::Silent(_)
                | ServerError::Failing(_)
                | ServerError::WhoAsks(_)
                | ServerError::Authorities(_)
                | ServerError::NotOverOpenConnection
                | ServerError::Stalled { .. }
        )
    }
}

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until it answers.
    pub answer: Duration,
    /// Between two pieces of a file.
    pub piece: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { answer: Duration::from_secs(10), piece: Duration::from_secs(30) }
    }
}

/// The servers of one run: who is dead, and what is known not to be there.
#[derive(Default)]
pub struct Servers {
    #[cfg_attr(not(feature = "symsrv"), allow(dead_code))]
    patience: Patience,
    watch: Option<Arc<dyn Watch>>,
    /// Files that are in a cache are fetched all the same.
    anew: AtomicBool,
    dead: Mutex<HashMap<String, String>>,
    missing: Mutex<HashSet<String>>,
    /// Servers that want to know who asks, and were told.
    told: Mutex<HashMap<String, String>>,
    #[cfg(feature = "symsrv")]
    agent: std::sync::OnceLock<Result<ureq::Agent, String>>,
}

impl Servers {
    /// Servers with someone who watches, and a patience.
    pub fn new(watch: Option<Arc<dyn Watch>>, patience: Patience) -> Servers {
        Servers { watch, patience, ..Servers::default() }
    }

    /// From now on (or no longer) files that are in a cache are fetched all the same.
    pub fn fetch_anew(&self, anew: bool) {
        self.anew.store(anew, Ordering::Relaxed);
    }

    pub(super) fn anew(&self) -> bool {
        self.anew.load(Ordering::Relaxed)
    }

    pub(super) fn interrupted(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.interrupted())
    }

    /// Forgets which servers are dead and what is missing.
    pub fn forget(&self) {
        lock(&self.dead).clear();
        lock(&self.missing).clear();
    }

    /// Gets a file; its bytes go to `sink` as they come, which is called with an empty piece first whenever what came
    /// before is void.
    pub(super) fn get(
        &self,
        url: &str,
        label: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ServerError> {
        let origin = origin(url);
        if let Some(why) = lock(&self.dead).get(&origin) {
            return Err(ServerError::Dead(why.clone()));
        }
        if lock(&self.missing).contains(url) && !self.anew() {
            return Err(ServerError::NotThere);
        }
        let result = self.try_often(url, &origin, label, sink);
        if let Some(watch) = &self.watch {
            watch.finished();
        }
        match &result {
            Err(error) if error.is_of_the_server() => {
                lock(&self.dead).insert(origin, error.to_string());
            }
            Err(ServerError::NotThere | ServerError::Refused(_)) => {
                lock(&self.missing).insert(url.to_owned());
            }
            _ => {}
        }
        result
    }

    fn try_often(
        &self,
        url: &str,
        origin: &str,
        label: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ServerError> {
        const TRIES: u32 = 3;
        let mut tries = 0;
        loop {
            tries += 1;
            sink(&[]).map_err(|error| ServerError::Local(error.to_string()))?;
            let told = lock(&self.told).get(origin).cloned();
            let result = self.once(url, told.as_deref(), label, sink);
            match result {
                Err(ServerError::WhoAsks(401)) if told.is_none() => match credentials(url) {
                    Some(_) if !is_private(url) => return Err(ServerError::NotOverOpenConnection),
                    Some(header) => {
                        lock(&self.told).insert(origin.to_owned(), header);
                    }
                    None => return result,
                },
                Err(ServerError::Failing(_) | ServerError::Truncated { .. }) if tries < TRIES => {
                    self.wait(Duration::from_millis(200 * u64::from(tries)))?;
                }
                result => return result,
            }
        }
    }

    fn wait(&self, time: Duration) -> Result<(), ServerError> {
        let mut left = time;
        while !left.is_zero() {
            if self.interrupted() {
                return Err(ServerError::Interrupted);
            }
            let step = left.min(POLL);
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    #[cfg(not(feature = "symsrv"))]
    fn once(
        &self,
        _url: &str,
        _told: Option<&str>,
        _label: &str,
        _sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ServerError> {
        Err(ServerError::NoNetwork)
    }

    #[cfg(feature = "symsrv")]
    fn once(
        &self,
        url: &str,
        told: Option<&str>,
        label: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ServerError> {
        use std::sync::mpsc::{RecvTimeoutError, sync_channel};
        use std::time::Instant;

        let (sender, pieces) = sync_channel(16);
        let agent = self.agent.get_or_init(|| wire::agent(self.patience.answer)).clone();
        let agent = agent.map_err(ServerError::Authorities)?;
        let (asked, told) = (url.to_owned(), told.map(str::to_owned));
        let spawned = std::thread::Builder::new()
            .name("symbol server".to_owned())
            .spawn(move || wire::request(&agent, &asked, told.as_deref(), &sender));
        if let Err(error) = spawned {
            return Err(ServerError::Local(error.to_string()));
        }
        let (mut done, mut total) = (0u64, None);
        let mut answered = false;
        let mut since = Instant::now();
        loop {
            if self.interrupted() {
                return Err(ServerError::Interrupted);
            }
            match pieces.recv_timeout(POLL) {
                Ok(wire::Message::Head(length)) => {
                    (answered, total, since) = (true, length, Instant::now());
                }
                Ok(wire::Message::Piece(bytes)) => {
                    sink(&bytes).map_err(|error| ServerError::Local(error.to_string()))?;
                    done = done.saturating_add(bytes.len() as u64);
                    since = Instant::now();
                    if let Some(watch) = &self.watch {
                        watch.progress(done, total.unwrap_or(0), label);
                    }
                    if done > super::expand::LIMIT {
                        return Err(ServerError::Local("it is too large".to_owned()));
                    }
                }
                Ok(wire::Message::End) => {
                    return match total.filter(|total| *total != done) {
                        Some(total) => Err(ServerError::Truncated { done, total }),
                        None => Ok(()),
                    };
                }
                Ok(wire::Message::Broken(why)) if answered => {
                    let total = total.unwrap_or(0);
                    log::debug!("{label}: {why}");
                    return Err(ServerError::Truncated { done, total });
                }
                Ok(wire::Message::Broken(why)) => return Err(ServerError::Silent(why)),
                Ok(wire::Message::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) => {
                    let limit = if answered { self.patience.piece } else { self.patience.answer };
                    if since.elapsed() < limit {
                        continue;
                    }
                    return Err(match answered {
                        true => ServerError::Stalled { done },
                        false => ServerError::Silent(format!("nothing came within {:.0?}", limit)),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ServerError::Silent("the request ended without an answer".to_owned()));
                }
            }
        }
    }
}

/// How often the user and the clock are asked.
const POLL: Duration = Duration::from_millis(50);

#[cfg(all(test, feature = "symsrv"))]
pub(super) use wire::authorities;

/// The wire itself.
#[cfg(feature = "symsrv")]
mod wire {
    use super::ServerError;
    use std::io::Read;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::SyncSender;
    use std::time::Duration;

    /// What a request reports, in this order.
    pub enum Message {
        /// It is coming; its length, where the server says.
        Head(Option<u64>),
        Piece(Vec<u8>),
        End,
        /// The connection, or its making, went wrong.
        Broken(String),
        Failed(ServerError),
    }

    /// Bytes of a file of certificates.
    const CERTIFICATES: u64 = 16 << 20;

    /// Who may vouch for a server: those of a file in PEM, in place of the public authorities that are built in.
    pub fn authorities(file: &Path) -> Result<ureq::tls::RootCerts, String> {
        let told = |why: &dyn std::fmt::Display| format!("SSL_CERT_FILE {}: {why}", file.display());
        let mut text = Vec::new();
        let opened = std::fs::File::open(file);
        opened
            .and_then(|file| file.take(CERTIFICATES).read_to_end(&mut text))
            .map_err(|error| told(&error))?;
        let found: Vec<_> = ureq::tls::parse_pem(&text)
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        match found.is_empty() {
            true => Err(told(&"it holds no certificate")),
            false => Ok(ureq::tls::RootCerts::Specific(Arc::new(found))),
        }
    }

    pub fn agent(answer: Duration) -> Result<ureq::Agent, String> {
        let roots = match std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
            Some(file) => authorities(Path::new(&file))?,
            None => ureq::tls::RootCerts::WebPki,
        };
        let proxy = match std::env::var("_NT_SYMBOL_PROXY") {
            Ok(proxy) if !proxy.is_empty() => {
                let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
                ureq::Proxy::new(&proxy).ok()
            }
            // ALL_PROXY, HTTPS_PROXY, HTTP_PROXY.
            _ => ureq::Proxy::try_from_env(),
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(5)
            .timeout_connect(Some(answer))
            .timeout_recv_response(Some(answer))
            .user_agent(concat!("kd/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy)
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(ureq::Agent::new_with_config(config))
    }

    /// Runs on a thread of its own until all is said or nobody listens.
    pub fn request(agent: &ureq::Agent, url: &str, told: Option<&str>, to: &SyncSender<Message>) {
        let mut request = agent.get(url);
        if let Some(told) = told {
            request = request.header("Authorization", told);
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => {
                let _ = to.send(Message::Broken(error.to_string()));
                return;
            }
        };
        let failed = match response.status().as_u16() {
            200 => None,
            404 | 410 => Some(ServerError::NotThere),
            status @ (401 | 407) => Some(ServerError::WhoAsks(status)),
            status @ (429 | 500..=599) => Some(ServerError::Failing(status)),
            status => Some(ServerError::Refused(status)),
        };
        if let Some(error) = failed {
            let _ = to.send(Message::Failed(error));
            return;
        }
        let length = response.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
        if to.send(Message::Head(length)).is_err() {
            return;
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let message = match body.read(&mut buffer) {
                Ok(0) => Message::End,
                Ok(count) => Message::Piece(buffer.get(..count).unwrap_or_default().to_vec()),
                Err(error) => Message::Broken(error.to_string()),
            };
            let last = !matches!(message, Message::Piece(_));
            if to.send(message).is_err() || last {
                return;
            }
        }
    }
}

/// `https://host:port` of an address.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{}://{}", scheme.to_ascii_lowercase(), authority.to_ascii_lowercase())
}

/// The host of an address, without its port.
fn host(url: &str) -> String {
    let origin = origin(url);
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    match authority.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default().to_owned(),
        None => authority.split(':').next().unwrap_or_default().to_owned(),
    }
}

/// True where nobody on the way can listen: TLS, or this very machine.
fn is_private(url: &str) -> bool {
    origin(url).starts_with("https://") || matches!(host(url).as_str(), "localhost" | "127.0.0.1" | "::1")
}

/// The header that tells a server who asks.
fn credentials(url: &str) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = host(url);
    if set("KD_SYMBOL_HOST").is_none_or(|only| only.eq_ignore_ascii_case(&host)) {
        if let Some(token) = set("KD_SYMBOL_TOKEN") {
            return Some(format!("Bearer {token}"));
        }
        if let (Some(user), Some(password)) = (set("KD_SYMBOL_USER"), set("KD_SYMBOL_PASSWORD")) {
            return Some(basic(&user, &password));
        }
    }
    let file = set("NETRC").map(std::path::PathBuf::from).or_else(|| {
        let home = set("HOME").or_else(|| set("USERPROFILE"))?;
        let home = std::path::Path::new(&home);
        [home.join(".netrc"), home.join("_netrc")].into_iter().find(|file| file.is_file())
    })?;
    let text = std::fs::read_to_string(file).ok()?;
    let (user, password) = in_netrc(&text, &host)?;
    Some(basic(&user, &password))
}

/// The login and password of a host, or of `default`.
fn in_netrc(text: &str, host: &str) -> Option<(String, String)> {
    let mut words =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let (mut here, mut user, mut password) = (false, None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if here {
                    break;
                }
                here = word == "default" || words.next().is_some_and(|name| name.eq_ignore_ascii_case(host));
            }
            "login" if here => user = words.next(),
            "password" if here => password = words.next(),
            "login" | "password" | "account" => {
                words.next();
            }
            _ => {}
        }
    }
    Some((user?.to_owned(), password?.to_owned()))
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4usize {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 0x3f) as usize).copied().unwrap_or(b'=');
            text.push(if n <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_hosts() {
        assert_eq!(origin("HTTPS://Host:8080/a/b"), "https://host:8080");
        assert_eq!(host("http://[::1]:80/x"), "::1");
        assert!(is_private("http://127.0.0.1:1/") && is_private("https://a/") && !is_private("http://a/"));
    }

    #[test]
    fn netrc_and_base64() {
        let text =
            "# c\nmachine a login u password p\nmachine b.c login x\n password y\ndefault login d password e";
        let pair = |host| in_netrc(text, host).unwrap();
        assert_eq!(pair("a"), ("u".to_owned(), "p".to_owned()));
        assert_eq!(pair("B.C"), ("x".to_owned(), "y".to_owned()));
        assert_eq!(pair("z"), ("d".to_owned(), "e".to_owned()));
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
