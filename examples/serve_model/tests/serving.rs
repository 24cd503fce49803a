//! The example that serves a model, as a program of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use superduper::candle::{Architecture, MlpSpec, Network};
use superduper::prelude::*;

fn start(folder: &Path) -> Child {
    let program = env!("CARGO_BIN_EXE_superduper-serve-model");
    Command::new(program)
        .arg(folder)
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn network(seed: u64) -> Network {
    let architecture = Architecture::Mlp(MlpSpec {
        inputs: 64,
        hidden: vec![4],
        classes: 10,
        ..MlpSpec::default()
    });
    let weights =
        Artifact::new(architecture.init(seed).unwrap().weights().unwrap().to_tensors().unwrap());
    Network { identifier: "digits".to_owned(), architecture, weights }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_labelled_version_is_served_and_half_a_request_keeps_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let best = {
        let db = Db::open(folder.path()).await.unwrap();
        db.apply(network(1)).await.unwrap();
        db.label("candle.Network/digits@0", "best").await.unwrap();
        db.apply(network(2)).await.unwrap();
        db.load::<Network>("digits@best").await.unwrap().huuid().unwrap()
    };
    let mut server = start(folder.path());
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Some((name, address)) = line.trim().split_once(" at http://") else {
        let mut text = String::new();
        server.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        panic!("it does not serve: {text}");
    };
    assert_eq!(name, format!("digits@best ({best})"));
    let mut half = TcpStream::connect(address).unwrap();
    half.write_all(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let kill = Command::new("kill").args(["-INT", &server.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let before = Instant::now();
    while server.try_wait().unwrap().is_none() {
        if before.elapsed() > Duration::from_secs(10) {
            server.kill().unwrap();
            panic!("it does not end after Ctrl-C");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_made_where_there_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = start(folder.path()).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(11), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a server makes no database");
}
