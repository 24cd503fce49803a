//! Notifications over HTTP, to a server that writes down what it gets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
};
use superduper_federated::{
    Delivery, Endpoint, HttpEndpoint, Notification, NotificationBody, NotificationType,
};

/// Requests: the lines of the head, and the body.
type Requests = Arc<Mutex<Vec<(Vec<String>, String)>>>;

/// A server on the loopback interface that answers each request with this status.
fn server(status: u16) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/notify", listener.local_addr().expect("an address"));
    let requests = Requests::default();
    let kept = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let (mut head, mut length) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                let line = line.trim_end().to_owned();
                if line.is_empty() {
                    break;
                }
                if let Some(size) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = size.parse().expect("a length");
                }
                head.push(line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let body = String::from_utf8(body).expect("text");
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((head, body));
            let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, requests)
}

fn notification() -> Notification {
    let body = NotificationBody {
        round: Some(3),
        global_model_uuid: Some("m".into()),
        ..NotificationBody::default()
    };
    Notification {
        notification_type: NotificationType::UpdateRoundStart,
        body,
        training_uuid: "t".into(),
        idempotency_key: "t/UPDATE_ROUND_START/r3/a".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_posts_have_the_form_of_dlr_and_an_idempotency_key() {
    let (url, requests) = server(202);
    let delivered = HttpEndpoint::new(url).deliver(&notification()).await;
    assert_eq!(delivered.expect("it is delivered"), Delivery::Accepted);
    let requests = requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let [(head, body)] = &requests[..] else { panic!("one request: {requests:?}") };
    assert_eq!(head[0], "POST /notify HTTP/1.1");
    let has = |line: &str| head.iter().any(|found| found.eq_ignore_ascii_case(line));
    assert!(has("content-type: application/json"), "{head:?}");
    assert!(has("idempotency-key: t/UPDATE_ROUND_START/r3/a"), "{head:?}");
    let found: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let wanted = serde_json::json!({
        "notification_type": "UPDATE_ROUND_START",
        "body": { "round": 3, "global_model_uuid": "m" },
        "training_uuid": "t",
        "idempotency_key": "t/UPDATE_ROUND_START/r3/a",
    });
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_statuses_reject_or_are_tried_again() {
    let (url, _) = server(404);
    let rejected = HttpEndpoint::new(url).deliver(&notification()).await.expect("an answer");
    assert!(matches!(&rejected, Delivery::Rejected(why) if why.contains("404")), "{rejected:?}");
    let (url, _) = server(503);
    let failed = HttpEndpoint::new(url).deliver(&notification()).await.expect_err("it failed");
    assert!(failed.is_retryable() && failed.to_string().contains("503"), "{failed}");
    let nobody = HttpEndpoint::new("http://127.0.0.1:1/x").deliver(&notification()).await;
    assert!(nobody.expect_err("nothing listens").is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_requests_end_at_their_time_limit() {
    // It accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let endpoint = HttpEndpoint { timeout: 0.2, ..HttpEndpoint::new(url) };
    let begun = std::time::Instant::now();
    assert!(endpoint.deliver(&notification()).await.expect_err("no answer").is_retryable());
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}
