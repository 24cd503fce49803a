//! Curves as SVG, by their content.

use crate::support::*;
use superduper::prelude::*;
use superduper_train::{Plot, Series, prelude::*};

fn series(values: impl IntoIterator<Item = f64>) -> Series {
    Series {
        points: values.into_iter().enumerate().map(|(step, value)| (step as u64, value)).collect(),
    }
}

/// Its name and attributes.
type Element = (String, Vec<(String, String)>);

/// Check that a text is one well-formed element; gives its elements with their attributes, and its
/// texts.
fn parse(svg: &str) -> (Vec<Element>, Vec<String>) {
    let (mut open, mut elements, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let plain = |text: &str| {
        assert!(
            !text.contains('<') && text.chars().all(|c| !c.is_control() || c == '\n'),
            "{text:?}"
        );
        for reference in text.split('&').skip(1) {
            let name = reference.split(';').next().unwrap();
            assert!(
                ["amp", "lt", "gt", "quot", "apos"].contains(&name) || name.starts_with('#'),
                "{text:?}"
            );
        }
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&#39;", "'")
            .replace("&amp;", "&")
    };
    let mut rest = svg.trim();
    while let Some(at) = rest.find('<') {
        let text = plain(&rest[..at]);
        if !text.trim().is_empty() {
            assert!(!open.is_empty(), "text outside of the element: {text}");
            texts.push(text.trim().to_owned());
        }
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name.trim()));
            assert!(!open.is_empty() || rest.is_empty(), "one element: {rest}");
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut left) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = Vec::new();
        while let Some((key, value)) = left.split_once("=\"") {
            let (value, more) = value.split_once('"').expect("a quoted value");
            attributes.push((key.trim().to_owned(), plain(value)));
            left = more;
        }
        assert!(left.trim().is_empty(), "{left}");
        elements.push((name.to_owned(), attributes));
        if !closed {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} {rest}");
    (elements, texts)
}

/// The points of each polyline, and the texts.
fn lines(svg: &str) -> (Vec<Vec<(f64, f64)>>, Vec<String>) {
    let (elements, texts) = parse(svg);
    let point = |pair: &str| {
        pair.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap()
    };
    let points = |attributes: &Vec<(String, String)>| {
        let (_, points) = attributes.iter().find(|(name, _)| name == "points").unwrap();
        points.split_whitespace().map(point).collect()
    };
    let lines = elements
        .iter()
        .filter(|(name, _)| name == "polyline")
        .map(|(_, attributes)| points(attributes))
        .collect();
    (lines, texts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j16_curves_of_runs_are_compared_in_one_svg() {
    let place = Place::new();
    let db = place.db().await;
    let trainer = trainer(&db, Thread).await;
    let one = trainer
        .train(Walk::new("loop", 30), TrainSpec::new().id("one").seed(1).wait())
        .await
        .unwrap();
    let two = trainer
        .train(Walk::new("loop", 20), TrainSpec::new().id("two").seed(2).wait())
        .await
        .unwrap();
    let (drawn, texts) = lines(&one.plot().svg().await.unwrap());
    assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [30]);
    assert_eq!(
        texts.iter().filter(|text| *text == "position").count(),
        2,
        "as the name of the chart and of the curve: {texts:?}"
    );
    let (drawn, texts) = lines(
        &one.plot().run(&two).metrics(["position"]).title("two versions").svg().await.unwrap(),
    );
    assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [30, 20], "a curve per run");
    for expected in ["two versions", "one position", "two position", "step"] {
        assert!(texts.iter().any(|text| text == expected), "{expected}: {texts:?}");
    }
    let error = one.plot().metrics(["loss"]).svg().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "there is no metric `loss` to plot; there is position")
    );
    let none =
        trainer.train(Walk::new("big", 0), TrainSpec::new().id("none").wait()).await.unwrap();
    let error = none.plot().svg().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().starts_with("there is nothing to plot: no metric is on record\nhint: "),
        "{error}"
    );
}

#[tokio::test]
async fn curves_of_one_thing_share_an_axis() {
    let falling = series((0..50).map(|step| 10.0 / (1.0 + f64::from(step))));
    let lower = series((0..50).map(|step| 5.0 / (1.0 + f64::from(step))));
    let plot = Plot::new()
        .series("run", "train_loss", &falling)
        .series("run", "val_loss", &lower)
        .series("run", "accuracy", &lower);
    let (drawn, texts) = lines(&plot.svg().await.unwrap());
    assert_eq!(drawn.len(), 3);
    assert!(
        ["loss", "train_loss", "val_loss", "accuracy"]
            .iter()
            .all(|name| texts.iter().any(|text| text == name)),
        "{texts:?}"
    );
    let [train, val, accuracy] = drawn.as_slice() else { panic!("{drawn:?}") };
    assert!(
        train[0].1 < val[0].1 && val[0].1 < 360.0,
        "the larger value is higher up, in the same chart"
    );
    assert!(accuracy.iter().all(|(_, y)| *y > 360.0), "another thing has a chart of its own below");
    let slope = |line: &[(f64, f64)]| (line[1].1 - line[0].1) / (line[49].1 - line[0].1);
    let (log, _) =
        lines(&Plot::new().series("run", "loss", &falling).log_scale(true).svg().await.unwrap());
    assert!(
        slope(train) > 0.45 && slope(&log[0]) < 0.25,
        "half of the way is a fifth of it on a logarithmic scale"
    );
}

#[tokio::test]
async fn odd_values_and_names_are_drawn_as_far_as_they_can_be() {
    let odd = series([1.0, f64::NAN, f64::INFINITY, 2.0, f64::NEG_INFINITY, -3.0]);
    let (drawn, _) = lines(&Plot::new().series("run", "odd", &odd).svg().await.unwrap());
    assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
    let (drawn, _) =
        lines(&Plot::new().series("run", "odd", &odd).log_scale(true).svg().await.unwrap());
    assert_eq!(
        drawn.iter().map(Vec::len).collect::<Vec<_>>(),
        [2],
        "what is not positive has no logarithm"
    );
    for values in [vec![], vec![f64::NAN]] {
        let error = Plot::new().series("run", "none", &series(values)).svg().await.unwrap_err();
        assert!(
            error.to_string().starts_with("there is nothing to plot: no value of none is a number"),
            "{error}"
        );
    }
    let error = Plot::new()
        .series("run", "below", &series([-1.0, 0.0]))
        .log_scale(true)
        .svg()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("there is nothing to plot: no value of below is a positive number"),
        "{error}"
    );
    let one = Plot::new().series("run", "one", &series([0.5])).svg().await.unwrap();
    let (elements, _) = parse(&one);
    assert_eq!(elements.iter().filter(|(name, _)| name == "polyline").count(), 1);
    assert_eq!(
        elements.iter().filter(|(name, _)| name == "circle").count(),
        1,
        "a line of one point would not be seen"
    );
    let name = "a<b> & \"c\" 'd' ]]> \u{0}\u{b}\u{ffff} \u{1f600}";
    let (_, texts) = lines(
        &Plot::new().series("run", name, &series([1.0, 2.0])).title("<svg>").svg().await.unwrap(),
    );
    assert!(texts.iter().any(|text| text == "a<b> & \"c\" 'd' ]]>     \u{1f600}"), "{texts:?}");
    assert!(texts.iter().any(|text| text == "<svg>"));
    for values in [
        vec![1e308, -1e308],
        vec![5e-324, 0.0],
        vec![7.0; 5],
        vec![1.0, 1.0 + f64::EPSILON],
        vec![1e308, 1e308],
        vec![0.0],
    ] {
        for log in [false, values.iter().all(|value| *value > 0.0)] {
            let (drawn, _) = lines(
                &Plot::new()
                    .series("run", "x", &series(values.clone()))
                    .log_scale(log)
                    .svg()
                    .await
                    .unwrap(),
            );
            assert!(
                drawn[0]
                    .iter()
                    .all(|(x, y)| (0.0..=900.0).contains(x) && (0.0..=360.0).contains(y)),
                "{values:?}: {drawn:?}"
            );
        }
    }
    let late = Series { points: vec![(u64::MAX - 1, 1.0), (u64::MAX, 2.0)] };
    lines(&Plot::new().series("run", "late", &late).svg().await.unwrap());
}

#[tokio::test]
async fn a_million_points_are_few_and_their_spike_stays() {
    let many = series(
        (0..1_000_000).map(|step| if step == 654_321 { 50.0 } else { f64::from(step % 10) }),
    );
    let svg = Plot::new().series("run", "many", &many).svg().await.unwrap();
    let (drawn, _) = lines(&svg);
    assert!(drawn.len() == 1 && (1000..=2000).contains(&drawn[0].len()), "{}", drawn[0].len());
    assert!(svg.len() < 100_000, "{}", svg.len());
    let ys = || drawn[0].iter().map(|(_, y)| *y);
    let top = ys().fold(f64::INFINITY, f64::min);
    assert_eq!(ys().filter(|y| *y == top).count(), 1);
}
