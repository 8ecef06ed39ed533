//! Symbols from a server on this machine that does what it is told: cold, warm, slow, dead, without the file,
//! breaking off, lying, leading elsewhere, asking who is there. Each time the cache is as it should be.

use super::super::*;
use super::places::{KEY, cabinet, source};
use super::{OneKernel, build};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a server does with a request.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

struct Host {
    url: String,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
}

impl Host {
    /// A server; `answer` is given the head of each request.
    fn new(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                        head.push(byte[0]);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    answer(&String::from_utf8_lossy(&head), &mut stream);
                });
            }
        });
        Host { url: format!("http://{address}/symbols"), asked, stop, address }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn send(stream: &mut TcpStream, status: &str, more: &str, body: &[u8]) {
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn not_found(stream: &mut TcpStream) {
    send(stream, "404 Not Found", "", b"no");
}

/// True for a request of the file under its full name.
fn is_plain(head: &str) -> bool {
    head.starts_with(&format!("GET /symbols/Small.pdb/{KEY}/Small.pdb "))
}

/// A server that has the file.
fn honest() -> Host {
    Host::new(|head, stream| {
        if is_plain(head) {
            send(stream, "200 OK", "", &build::pdb(1));
        } else {
            not_found(stream);
        }
    })
}

const QUICK: Patience = Patience { answer: Duration::from_millis(600), piece: Duration::from_millis(600) };

fn symbols(path: &str) -> Symbols {
    Symbols::new(SymbolPath::parse(path).asking(&Arc::new(Servers::new(None, QUICK))))
}

fn pdb_of(symbols: &Symbols, source: &OneKernel) -> Result<PathBuf, String> {
    match symbols.load(source, 0) {
        ModuleState::Loaded { pdb, .. } => Ok(pdb),
        ModuleState::None { reason } => Err(reason.in_full()),
        other => Err(format!("{other:?}")),
    }
}

/// Every file in a cache, without the mark of a store.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.ends_with("pingme.txt") => {}
                path => found.push(path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")),
            }
        }
    }
    found.sort();
    found
}

fn in_cache() -> String {
    format!("Small.pdb/{KEY}/Small.pdb")
}

#[test]
fn a_cold_cache_is_filled_and_a_warm_one_asks_nobody() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let host = honest();
    let path = format!("srv*{}*{}", cache.display(), host.url);
    let pdb = pdb_of(&symbols(&path), &source()).unwrap();
    assert_eq!(pdb, cache.join(in_cache()));
    assert_eq!(fs::read(pdb).unwrap(), build::pdb(1));
    assert_eq!(files(&cache), [in_cache()]);
    assert!(cache.join("pingme.txt").is_file());
    let asked = host.asked();
    pdb_of(&symbols(&path), &source()).unwrap();
    assert_eq!(host.asked(), asked);
    // Every place before the server gets it, `cache*` too; a store of three tiers keeps its tiers.
    let near = root.path().join("near");
    fs::create_dir_all(&near).unwrap();
    fs::write(near.join("index2.txt"), "").unwrap();
    let far = root.path().join("far");
    let path = format!("cache*{};srv*{}*{}", near.display(), far.display(), host.url);
    pdb_of(&symbols(&path), &source()).unwrap();
    assert_eq!(files(&far), [in_cache()]);
    assert_eq!(files(&near), [format!("Sm/{}", in_cache()), "index2.txt".to_owned()]);
    // Fetched anew where that is asked for.
    fs::write(far.join(in_cache()), b"worn").unwrap();
    let path = format!("srv*{}*{}", far.display(), host.url);
    let again = symbols(&path);
    again.fetch_anew(true);
    pdb_of(&again, &source()).unwrap();
    assert_eq!(fs::read(far.join(in_cache())).unwrap(), build::pdb(1));
}

#[test]
fn a_file_that_is_not_there_is_asked_for_once() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let host = Host::new(|_, stream| not_found(stream));
    let symbols = symbols(&format!("srv*{}*{}", cache.display(), host.url));
    let error = pdb_of(&symbols, &source()).unwrap_err();
    assert!(error.contains(&format!("{}: has no such file", host.url)), "{error}");
    // The file, its compressed form, its pointer.
    assert_eq!(host.asked(), 3);
    symbols.unload(&source(), None);
    pdb_of(&symbols, &source()).unwrap_err();
    assert_eq!(host.asked(), 3);
    assert!(!cache.exists(), "nothing came, and nothing was made");
}

#[test]
fn compressed_files_and_pointers_are_understood() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let host = Host::new(|head, stream| {
        if head.contains("Small.pd_ ") {
            send(stream, "200 OK", "", &cabinet("Small.pdb", &build::pdb(1)));
        } else {
            not_found(stream);
        }
    });
    let pdb = pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap();
    assert_eq!(fs::read(pdb).unwrap(), build::pdb(1));
    assert_eq!(files(&cache), [in_cache()]);

    let elsewhere = root.path().join("elsewhere.pdb");
    fs::write(&elsewhere, build::pdb(1)).unwrap();
    let pointer = format!("PATH:{}", elsewhere.display());
    let host = Host::new(move |head, stream| {
        if head.contains("file.ptr ") {
            send(stream, "200 OK", "", pointer.as_bytes());
        } else {
            not_found(stream);
        }
    });
    let cache = root.path().join("cache2");
    assert_eq!(
        pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap(),
        elsewhere
    );
    assert_eq!(files(&cache), [in_cache()]);
}

#[test]
fn dead_and_silent_servers_cost_one_wait() {
    let root = tempfile::tempdir().unwrap();
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Takes the request and says nothing.
    let silent = Host::new(|_, _| std::thread::sleep(Duration::from_secs(5)));
    for (url, said) in
        [(format!("http://{free}/x"), "does not answer"), (silent.url.clone(), "does not answer")]
    {
        let symbols = symbols(&format!("srv*{}*{url}", root.path().display()));
        let started = Instant::now();
        let error = pdb_of(&symbols, &source()).unwrap_err();
        assert!(error.contains(said), "{error}");
        let first = started.elapsed();
        assert!(first < Duration::from_secs(3), "{first:?}");
        symbols.unload(&source(), None);
        let started = Instant::now();
        let error = pdb_of(&symbols, &source()).unwrap_err();
        assert!(error.contains("is not asked again in this run: does not answer"), "{error}");
        assert!(started.elapsed() < Duration::from_millis(200));
    }
    assert!(files(root.path()).is_empty());
}

#[test]
fn a_failing_server_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let times = AtomicUsize::new(0);
    let host = Host::new(move |_, stream| {
        if times.fetch_add(1, Ordering::Relaxed) < 2 {
            send(stream, "503 Busy", "", b"");
        } else {
            send(stream, "200 OK", "", &build::pdb(1));
        }
    });
    pdb_of(&symbols(&format!("srv*{}*{}", root.path().display(), host.url)), &source()).unwrap();
    assert_eq!(host.asked(), 3);
    assert_eq!(fs::read(root.path().join(in_cache())).unwrap(), build::pdb(1));
    let host = Host::new(|_, stream| send(stream, "500 Oh", "", b""));
    let error =
        pdb_of(&symbols(&format!("srv*{}/b*{}", root.path().display(), host.url)), &source()).unwrap_err();
    assert!(error.contains("fails (status 500)"), "{error}");
    assert_eq!(host.asked(), 3);
    assert!(files(&root.path().join("b")).is_empty());
}

#[test]
fn what_breaks_off_or_stalls_is_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let host = Host::new(|_, stream| {
        let pdb = build::pdb(1);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", pdb.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&pdb[..1000]);
    });
    let error = pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap_err();
    assert!(error.contains(&format!("sent 1000 of {} bytes", build::pdb(1).len())), "{error}");
    assert_eq!(host.asked(), 3);
    assert!(files(&cache).is_empty(), "{:?}", files(&cache));

    let host = Host::new(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nMicrosoft");
        std::thread::sleep(Duration::from_secs(5));
    });
    let error = pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap_err();
    assert!(error.contains("stopped sending after 9 bytes"), "{error}");
    assert!(files(&cache).is_empty());
    // Nothing that was left behind keeps the next one from filling the cache.
    let host = honest();
    pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap();
    assert_eq!(files(&cache), [in_cache()]);
    assert_eq!(fs::read(cache.join(in_cache())).unwrap(), build::pdb(1));
}

#[test]
fn a_slow_server_is_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(|_, stream| {
        let pdb = build::pdb(1);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", pdb.len());
        let _ = stream.write_all(head.as_bytes());
        for piece in pdb.chunks(pdb.len() / 8 + 1) {
            std::thread::sleep(Duration::from_millis(150));
            let _ = stream.write_all(piece);
        }
    });
    pdb_of(&symbols(&format!("srv*{}*{}", root.path().display(), host.url)), &source()).unwrap();
    assert_eq!(files(root.path()), [in_cache()]);
    assert_eq!(fs::read(root.path().join(in_cache())).unwrap(), build::pdb(1));
}

#[test]
fn wrong_files_are_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut damaged = build::pdb(1);
    damaged.truncate(900);
    for (body, said) in [
        (build::pdb(2), "belongs to another build"),
        (damaged, "is not kept"),
        (
            b"Microsoft MSFZ Container\r\n\x1aALD\0\0".to_vec(),
            "it is a compressed PDB (MSFZ), which is not read",
        ),
        (
            cabinet("Small.pdb", b"Microsoft MSFZ Container\r\n"),
            "it is a compressed PDB (MSFZ), which is not read",
        ),
        (b"<html>please log in</html>".to_vec(), "it is a web page"),
        (Vec::new(), "is empty"),
        (b"MSCF, but no cabinet".to_vec(), "cannot be expanded"),
    ] {
        let host = Host::new(move |_, stream| send(stream, "200 OK", "", &body));
        let error =
            pdb_of(&symbols(&format!("srv*{}*{}", root.path().display(), host.url)), &source()).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(files(root.path()).is_empty(), "{said}: {:?}", files(root.path()));
    }
    // What a cache holds already and cannot be used is fetched again, and replaced.
    fs::create_dir_all(root.path().join(in_cache()).parent().unwrap()).unwrap();
    fs::write(root.path().join(in_cache()), b"Microsoft, cut").unwrap();
    let host = honest();
    pdb_of(&symbols(&format!("srv*{}*{}", root.path().display(), host.url)), &source()).unwrap();
    assert_eq!(fs::read(root.path().join(in_cache())).unwrap(), build::pdb(1));
}

#[test]
fn a_server_may_lead_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let blobs = Host::new(|head, stream| {
        assert!(!head.to_lowercase().contains("authorization"));
        send(stream, "200 OK", "", &build::pdb(1));
    });
    let to = format!("Location: {}/blob\r\n", blobs.url);
    let host = Host::new(move |_, stream| send(stream, "302 Found", &to, b""));
    pdb_of(&symbols(&format!("srv*{}*{}", root.path().display(), host.url)), &source()).unwrap();
    assert_eq!(blobs.asked(), 1);
    assert_eq!(files(root.path()), [in_cache()]);
    assert_eq!(fs::read(root.path().join(in_cache())).unwrap(), build::pdb(1));
    // In a circle.
    let host = Host::new(|_, stream| send(stream, "302 Found", "Location: /symbols/again\r\n", b""));
    let error =
        pdb_of(&symbols(&format!("srv*{}/c*{}", root.path().display(), host.url)), &source()).unwrap_err();
    assert!(error.contains(&format!("{}: does not answer: too many redirects", host.url)), "{error}");
    assert!(host.asked() < 20);
    assert!(files(&root.path().join("c")).is_empty());
}

#[test]
fn two_at_once_fill_one_cache() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let host = Host::new(|_, stream| {
        std::thread::sleep(Duration::from_millis(100));
        send(stream, "200 OK", "", &build::pdb(1));
    });
    let path = format!("srv*{}*{}", cache.display(), host.url);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pdb_of(&symbols(&path), &source()).unwrap());
        }
    });
    assert_eq!(files(&cache), [in_cache()]);
    assert_eq!(fs::read(cache.join(in_cache())).unwrap(), build::pdb(1));
}

#[test]
fn authorities_are_read_from_a_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("authorities.pem");
    let said = |file: &Path| super::super::server::authorities(file).map(|_| ()).unwrap_err();
    assert!(said(&file).starts_with(&format!("SSL_CERT_FILE {}: ", file.display())));
    fs::write(&file, "no certificate at all").unwrap();
    assert!(said(&file).ends_with("it holds no certificate"));
    let one = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    fs::write(&file, one.repeat(2)).unwrap();
    let roots = super::super::server::authorities(&file).unwrap();
    assert!(matches!(roots, ureq::tls::RootCerts::Specific(all) if all.len() == 2));
}

/// Someone who has pressed Ctrl+C.
struct Impatient;

impl Watch for Impatient {
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn finished(&self) {}
    fn interrupted(&self) -> bool {
        true
    }
    fn say(&self, _: &str) {}
}

#[test]
fn what_was_stopped_is_tried_again_later() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(|_, _| std::thread::sleep(Duration::from_secs(5)));
    let path = format!("srv*{}*{}", root.path().display(), host.url);
    let servers = Arc::new(Servers::new(Some(Arc::new(Impatient)), Patience::default()));
    let symbols = Symbols::new(SymbolPath::parse(&path).asking(&servers));
    let started = Instant::now();
    let error = pdb_of(&symbols, &source()).unwrap_err();
    assert!(error.contains("interrupted"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(matches!(symbols.state(&source(), 0), ModuleState::Deferred));
}

#[test]
fn a_cache_that_cannot_be_written_keeps_nobody_from_reading() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("a file");
    fs::write(&cache, b"").unwrap();
    let host = honest();
    pdb_of(&symbols(&format!("srv*{}*{}", cache.display(), host.url)), &source()).unwrap();
}

#[test]
fn who_asks_is_not_told_unasked() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(|head, stream| {
        assert!(!head.to_lowercase().contains("authorization"));
        send(stream, "401 Who", "WWW-Authenticate: Basic\r\n", b"");
    });
    let address = host.url.trim_start_matches("http://");
    let path = format!("srv*{}*http://me:secret@{address}", root.path().display());
    let error = pdb_of(&symbols(&path), &source()).unwrap_err();
    assert!(error.contains("wants to know who asks (status 401): set KD_SYMBOL_TOKEN"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(host.asked(), 1);
}
