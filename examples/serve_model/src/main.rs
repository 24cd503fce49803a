//! Predictions over HTTP: the best version of a trained model is loaded once and answers in
//! batches.
//!
//! ```sh
//! # It trains, serves, asks itself and ends.
//! cargo run --release -p superduper-serve-model
//! # It serves what `train_digits -- FOLDER` trained.
//! cargo run --release -p superduper-serve-model -- FOLDER [ADDRESS]
//! curl -X POST localhost:8080/predict -H 'content-type: application/json' \
//!     -d '{"rows": [[0, 0, …]]}'
//! ```
//!
//! Requests that arrive at about the same time share one matrix product: a task collects them until
//! there are enough rows or the first one has waited long enough.

#[path = "../../shared/digits.rs"]
mod digits;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use superduper::candle::{Classifier, Network, NetworkModel};
use superduper::prelude::*;
use superduper::train::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// Rows that one matrix product takes.
const ROWS: usize = 256;
/// How long a request waits for others.
const WAIT: Duration = Duration::from_millis(2);
/// How long requests under way may take after Ctrl-C.
const GRACE: Duration = Duration::from_secs(2);
/// Requests that may wait; more are told to come back.
const QUEUE: usize = 1024;

#[derive(Deserialize)]
struct Ask {
    rows: Vec<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    model: String,
    classes: Vec<u32>,
    probabilities: Vec<Vec<f32>>,
    /// The requests that were answered together.
    batch: usize,
}

struct Waiting {
    rows: Vec<Vec<f32>>,
    reply: oneshot::Sender<Result<Answer>>,
}

struct Served {
    inputs: usize,
    queue: mpsc::Sender<Waiting>,
}

type Refused = (StatusCode, String);

async fn predict(
    State(served): State<Arc<Served>>,
    body: Result<Json<Ask>, JsonRejection>,
) -> Result<Json<Answer>, Refused> {
    let Json(Ask { rows }) =
        body.map_err(|rejection| (rejection.status(), rejection.body_text()))?;
    // Checked here, so that a wrong row fails its own request and not those that share the batch.
    if let Some((index, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != served.inputs)
    {
        let text =
            format!("row {index} has {} features, the model needs {}", row.len(), served.inputs);
        return Err((StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    if rows.is_empty() || rows.len() > ROWS {
        return Err((
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("a request takes 1 to {ROWS} rows, not {}", rows.len()),
        ));
    }
    let (reply, answer) = oneshot::channel();
    let busy =
        || (StatusCode::SERVICE_UNAVAILABLE, format!("{QUEUE} requests are waiting; try again"));
    served.queue.try_send(Waiting { rows, reply }).map_err(|_| busy())?;
    let failed = |text: String| (StatusCode::INTERNAL_SERVER_ERROR, text);
    let answer = answer.await.map_err(|_| failed("the model is gone".to_owned()))?;
    answer.map(Json).map_err(|error| failed(error.to_string()))
}

/// Collect requests, predict, answer.
async fn batches(model: Arc<NetworkModel>, name: String, mut queue: mpsc::Receiver<Waiting>) {
    let mut held_over = None;
    loop {
        let first = match held_over.take() {
            Some(waiting) => Some(waiting),
            None => queue.recv().await,
        };
        let Some(first) = first else { return };
        let until = Instant::now() + WAIT;
        let mut rows = first.rows;
        let mut replies = vec![(first.reply, rows.len())];
        while let Ok(Some(next)) = timeout_at(until, queue.recv()).await {
            if rows.len() + next.rows.len() > ROWS {
                held_over = Some(next);
                break;
            }
            replies.push((next.reply, next.rows.len()));
            rows.extend(next.rows);
        }
        let model = model.clone();
        let predicted = tokio::task::spawn_blocking(move || model.probabilities(&rows)).await;
        let mut predicted = predicted.map_err(Error::msg).flatten().map(Vec::into_iter);
        let batch = replies.len();
        for (reply, count) in replies {
            let answer = match &mut predicted {
                Ok(rows) => {
                    let probabilities: Vec<Vec<f32>> = rows.by_ref().take(count).collect();
                    let classes = probabilities.iter().map(|row| most_likely(row)).collect();
                    Ok(Answer { model: name.clone(), classes, probabilities, batch })
                }
                Err(error) => Err(Error::msg(error.to_string())),
            };
            // Who has gone away needs no answer.
            let _ = reply.send(answer);
        }
    }
}

fn most_likely(probabilities: &[f32]) -> u32 {
    let best = (0..probabilities.len()).reduce(|best, class| {
        if probabilities[class] > probabilities[best] { class } else { best }
    });
    best.unwrap_or_default() as u32
}

/// Load the best version, and serve it until Ctrl-C or until the program ends.
async fn serve(db: &Db, listener: TcpListener) -> Result<()> {
    // A label that `train_digits` sets; without one, the newest.
    let name = match db.resolve("candle.Network/digits@best").await {
        Ok(_) => "digits@best",
        Err(_) => "digits",
    };
    let network: Network =
        db.load(name).await.context("there is no trained model; run `train_digits -- FOLDER`")?;
    let (model, inputs) = (network.huuid()?, network.architecture.inputs());
    let (queue, waiting) = mpsc::channel(QUEUE);
    tokio::spawn(batches(Arc::new(network.model().await?), model.clone(), waiting));
    println!("{name} ({model}) at http://{}", listener.local_addr()?);
    let about = json!({"model": model, "architecture": network.architecture, "rows": ROWS});
    let router = Router::new()
        .route("/model", get(async move || Json(about)))
        .route("/predict", post(predict))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(Arc::new(Served { inputs, queue }));
    // Without a signal handler the program just ends.
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    // A client that sends half a request must not keep the program.
    let late = async {
        drop(tokio::signal::ctrl_c().await);
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = axum::serve(listener, router).with_graceful_shutdown(stop) => Ok(served?),
        () = late => Ok(()),
    }
}

#[superduper::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => ask_itself().await,
        [folder] => serve(&open(folder).await?, TcpListener::bind("127.0.0.1:8080").await?).await,
        [folder, address] => {
            serve(&open(folder).await?, TcpListener::bind(address).await.context(address)?).await
        }
        _ => Err(Error::invalid("too many arguments").with_hint("serve_model [FOLDER [ADDRESS]]")),
    }
}

async fn open(folder: &str) -> Result<Db> {
    // A server of predictions reads: a mistyped folder must not become a database.
    Db::builder()
        .at(folder)?
        .read_only()
        .build()
        .await
        .context("run `train_digits -- FOLDER` first")
}

/// Train for a moment, serve, and send the digits of the test: many clients at once, a digit each.
async fn ask_itself() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("superduper-serve-").tempdir()?;
    let db = Db::open(folder.path()).await?;
    let (rows, test) = digits::tables()?;
    let module = Classifier::builder("digits")
        .table(Artifact::new(rows))
        .inputs(64)
        .classes(10)
        .hidden(vec![64])
        .held_out(0.0)
        .epochs(20)
        .build()?;
    let trainer = LocalTrainer::new("threads").open(&db).await?;
    let network: Network = trainer.train(module, TrainSpec::new()).await?.load().await?;
    db.apply(network).await?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { serve(&db, listener).await });
    let begun = std::time::Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..32 {
        let rows: Vec<(Vec<f32>, u32)> = (client..test.rows())
            .step_by(32)
            .map(|index| (test.row(index).to_vec(), test.labels()[index]))
            .collect();
        clients.spawn(async move {
            let mut found = Vec::new();
            for (row, label) in rows {
                let (status, body) = request(address, &json!({"rows": [row]}).to_string()).await?;
                let answer: Answer =
                    serde_json::from_str(&body).context(format_args!("status {status}: {body}"))?;
                found.push((answer.classes == [label], answer.batch));
            }
            Ok::<_, Error>(found)
        });
    }
    let found: Vec<(bool, usize)> =
        clients.join_all().await.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let right = found.iter().filter(|(right, _)| *right).count();
    let together = found.iter().map(|(_, batch)| batch).sum::<usize>() as f64 / found.len() as f64;
    println!(
        "{} requests in {:?}, {right} right, {together:.1} answered together on average",
        found.len(),
        begun.elapsed()
    );
    let (status, body) = request(address, r#"{"rows": [[1, 2, 3]]}"#).await?;
    println!("a row of another size: {status} {body}");
    server.abort();
    if 100 * right >= 93 * found.len() {
        Ok(())
    } else {
        Err(Error::msg("less than 93 % are right"))
    }
}

/// A client in a few lines: a request per connection; gives status and body.
async fn request(address: std::net::SocketAddr, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = "POST /predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    stream
        .write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| Error::msg("no answer"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| Error::msg("no status"))?;
    Ok((status, body.to_owned()))
}
