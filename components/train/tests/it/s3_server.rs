//! A small service that speaks as much S3 as a client of it needs, on loopback.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
};

pub(crate) const KEY: &str = "AKIA-ONLY-FOR-TESTS";
pub(crate) const SECRET: &str = "a/secret+that/nobody+sees";
const BUCKET: &str = "models";

#[derive(Default)]
pub(crate) struct State {
    /// Objects with their etags, by key.
    pub(crate) objects: BTreeMap<String, (Vec<u8>, String)>,
    /// Uploads that are neither completed nor aborted, with their parts.
    pub(crate) uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Keys in the order in which they appeared.
    pub(crate) order: Vec<String>,
    pub(crate) largest_body: usize,
    pub(crate) parts: usize,
    /// Answer so many requests with 503 first.
    pub(crate) busy: usize,
    /// Refuse parts from this number on.
    pub(crate) refuse_part: Option<u32>,
    /// Take so long for each part.
    pub(crate) slow: std::time::Duration,
    serial: usize,
}

pub(crate) struct Server {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Server { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }
}

impl State {
    pub(crate) fn put(&mut self, key: &str, bytes: Vec<u8>) -> String {
        self.serial += 1;
        let etag = format!("\"state-{}\"", self.serial);
        self.objects.insert(key.to_owned(), (bytes, etag.clone()));
        self.order.push(key.to_owned());
        etag
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Status, further headers, body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        if request.query.contains_key("partNumber") {
            let slow = state.lock().unwrap().slow;
            std::thread::sleep(slow);
        }
        let (status, headers, body) = answer(&request, &mut state.lock().unwrap());
        let mut head =
            format!("HTTP/1.1 {status} x\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n");
        for (name, value) in &headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        stream.write_all(&body).ok()?;
    }
    Some(())
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body =
        vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| {
        pair.split_once('=').map_or((pair.to_owned(), String::new()), |(key, value)| {
            (key.to_owned(), value.to_owned())
        })
    };
    let query = query.split('&').filter(|part| !part.is_empty()).map(pair).collect();
    Some(Request { method, path: path.trim_start_matches('/').to_owned(), query, headers, body })
}

fn error(status: u16, code: &str, more: &str) -> Answer {
    (
        status,
        Vec::new(),
        format!("<Error><Code>{code}</Code><Message>no</Message>{more}</Error>").into_bytes(),
    )
}

fn answer(request: &Request, state: &mut State) -> Answer {
    let Request { method, path, query, headers, body } = request;
    if state.busy > 0 {
        state.busy -= 1;
        return error(503, "SlowDown", "");
    }
    let authorization = headers.get("authorization").map(String::as_str).unwrap_or_default();
    if !authorization.contains(&format!("Credential={KEY}/")) {
        // As the real one: it repeats the key.
        let key = authorization
            .split("Credential=")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default();
        return error(
            403,
            "InvalidAccessKeyId",
            &format!("<AWSAccessKeyId>{key}</AWSAccessKeyId>"),
        );
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    if bucket != BUCKET {
        return error(404, "NoSuchBucket", "");
    }
    state.largest_body = state.largest_body.max(body.len());
    let upload = query.get("uploadId");
    match (method.as_str(), upload) {
        ("GET", None) if query.contains_key("list-type") => {
            let prefix =
                query.get("prefix").map(|prefix| prefix.replace("%2F", "/")).unwrap_or_default();
            let found: Vec<_> =
                state.objects.iter().filter(|(key, _)| key.starts_with(&prefix)).collect();
            let entry = |(key, (bytes, _)): &(&String, &(Vec<u8>, String))| {
                let time = "<LastModified>2025-01-01T00:00:00.000Z</LastModified>";
                format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size>{time}<ETag>x</ETag></Contents>",
                    bytes.len()
                )
            };
            let entries: String = found.iter().map(entry).collect();
            let count = format!(
                "<Name>{BUCKET}</Name><KeyCount>{}</KeyCount><IsTruncated>false</IsTruncated>",
                found.len()
            );
            (
                200,
                Vec::new(),
                format!("<ListBucketResult>{count}{entries}</ListBucketResult>").into_bytes(),
            )
        }
        ("POST", None) if query.contains_key("uploads") => {
            state.serial += 1;
            let id = format!("upload-{}", state.serial);
            state.uploads.insert(id.clone(), BTreeMap::new());
            let text = format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            (200, Vec::new(), text.into_bytes())
        }
        ("PUT", Some(id)) => {
            let number: u32 = query["partNumber"].parse().unwrap();
            if state.refuse_part.is_some_and(|from| number >= from) {
                return error(400, "EntityTooSmall", "");
            }
            state.parts += 1;
            state.uploads.get_mut(id).unwrap().insert(number, body.clone());
            (200, vec![("ETag", format!("\"part-{number}\""))], Vec::new())
        }
        ("POST", Some(id)) => {
            let parts = state.uploads.remove(id).unwrap();
            let etag = state.put(key, parts.into_values().flatten().collect());
            let text = format!(
                "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
            );
            (200, Vec::new(), text.replace('"', "&quot;").into_bytes())
        }
        ("DELETE", Some(id)) => {
            state.uploads.remove(id);
            (204, Vec::new(), Vec::new())
        }
        ("PUT", None) => (200, vec![("ETag", state.put(key, body.clone()))], Vec::new()),
        ("DELETE", None) => {
            state.objects.remove(key);
            (204, Vec::new(), Vec::new())
        }
        (method @ ("GET" | "HEAD"), None) => {
            let Some((bytes, etag)) = state.objects.get(key) else {
                return if method == "HEAD" {
                    (404, Vec::new(), Vec::new())
                } else {
                    error(404, "NoSuchKey", "")
                };
            };
            let etag = ("ETag", etag.clone());
            if method == "HEAD" {
                return (200, vec![etag, ("Content-Length", bytes.len().to_string())], Vec::new());
            }
            let range = headers
                .get("range")
                .and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
            let Some((from, to)) = range else { return (200, vec![etag], bytes.clone()) };
            let from: usize = from.parse().unwrap();
            let to = to.parse::<usize>().unwrap().min(bytes.len() - 1);
            let content = ("Content-Range", format!("bytes {from}-{to}/{}", bytes.len()));
            (206, vec![etag, content], bytes[from..=to].to_vec())
        }
        _ => error(405, "MethodNotAllowed", ""),
    }
}
