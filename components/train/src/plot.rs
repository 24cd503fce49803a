//! Curves of metrics as SVG: text, drawn without fonts, bitmaps or a screen.
//!
//! Invariants: a curve is one `<polyline>` whatever its values are; NaN and infinity are left out,
//! and what a plot cannot show is an error, never an empty picture. Names are shown as text,
//! whatever they hold.

use crate::{
    handle::JobRun,
    metrics::Series,
    text::{brief, one_line},
};
use plotters::{coord::types::RangedCoordf64, prelude::*};
use std::{collections::BTreeMap, fmt, ops::Range};
use superduper::{Error, Result};

/// More points than these of a curve look the same.
const POINTS: usize = 2_000;

/// Values beyond are drawn at the border.
const LARGEST: f64 = 1e300;

const COLORS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
];

/// A plot of metrics over steps.
///
/// Metrics of one thing share a chart, so that they can be compared: `loss`, `train_loss`,
/// `val/loss` and `loss.test` are all of `loss`. Each other thing has a chart of its own below.
///
/// # Guarantees
/// The text is one well-formed `<svg>` element; each curve is one `<polyline>` of at most 2000
/// points, in which spikes stay.
///
/// ```no_run
/// # async fn example(run: superduper_train::TrainingRun, older: superduper_train::TrainingRun) -> superduper::Result<()> {
/// std::fs::write("loss.svg", run.plot().metrics(["loss", "val_loss"]).log_scale(true).svg().await?)?;
/// std::fs::write("both.svg", run.plot().run(&older).title("two versions").svg().await?)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Plot {
    runs: Vec<JobRun>,
    series: Vec<Curve>,
    metrics: Option<Vec<String>>,
    title: Option<String>,
    log: bool,
    width: u32,
    height: u32,
}

#[derive(Debug, Clone)]
struct Curve {
    of: String,
    metric: String,
    points: Vec<(f64, f64)>,
}

impl Default for Plot {
    fn default() -> Self {
        Plot::new()
    }
}

impl Plot {
    /// A plot of nothing yet.
    pub fn new() -> Self {
        Plot {
            runs: Vec::new(),
            series: Vec::new(),
            metrics: None,
            title: None,
            log: false,
            width: 900,
            height: 360,
        }
    }

    /// Add the curves of a run.
    pub fn run(mut self, run: &JobRun) -> Self {
        self.runs.push(run.clone());
        self
    }

    /// Add a curve of your own: whose it is, the metric, its numbers.
    pub fn series(
        mut self,
        of: impl Into<String>,
        metric: impl Into<String>,
        series: &Series,
    ) -> Self {
        self.series.push(Curve::new(of.into(), metric.into(), series));
        self
    }

    /// Show these metrics, in this order; all of them unless this is called.
    pub fn metrics<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.metrics = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// A title above all charts.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Whether values have a logarithmic scale; those that are not positive are left out then.
    pub fn log_scale(mut self, log: bool) -> Self {
        self.log = log;
        self
    }

    /// The size of a chart in pixels; 900 × 360 unless this is called, never below 200 × 120 nor
    /// above 10,000.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width.clamp(200, 10_000), height.clamp(120, 10_000));
        self
    }

    /// Read the metrics and draw them.
    ///
    /// # Errors
    /// `NotFound` for a metric that no run has, and where nothing has a value that can be shown;
    /// `Store`.
    pub async fn svg(&self) -> Result<String> {
        let mut curves = self.series.clone();
        for run in &self.runs {
            let mut by_name: BTreeMap<String, Series> = BTreeMap::new();
            for row in run.metrics().await? {
                by_name.entry(row.name).or_default().points.push((row.step, row.value));
            }
            curves.extend(
                by_name
                    .into_iter()
                    .map(|(name, series)| Curve::new(run.id().to_owned(), name, &series)),
            );
        }
        let plot = self.clone();
        let drawn = tokio::task::spawn_blocking(move || plot.draw(curves)).await;
        drawn.map_err(|error| Error::internal(error.to_string()))?
    }

    fn draw(&self, curves: Vec<Curve>) -> Result<String> {
        let charts = self.charts(self.chosen(curves)?)?;
        let several =
            charts.iter().flat_map(|(_, curves)| curves).any(|curve| curve.of != charts[0].1[0].of);
        let above = if self.title.is_some() { 30 } else { 0 };
        let mut text = String::new();
        {
            let height = self.height * u32::try_from(charts.len()).unwrap_or(1) + above;
            let area = SVGBackend::with_string(&mut text, (self.width, height)).into_drawing_area();
            area.fill(&WHITE).map_err(failed)?;
            let area = match &self.title {
                Some(title) => {
                    area.titled(&one_line(title, 200), ("sans-serif", 20)).map_err(failed)?
                }
                None => area.clone(),
            };
            let mut colors = COLORS.iter().cycle();
            for (part, (name, curves)) in area.split_evenly((charts.len(), 1)).iter().zip(&charts) {
                self.chart(part, name, curves, several, &mut colors)?;
            }
            area.present().map_err(failed)?;
        }
        Ok(text)
    }

    /// The curves that are asked for, in that order.
    fn chosen(&self, curves: Vec<Curve>) -> Result<Vec<Curve>> {
        let Some(names) = &self.metrics else { return Ok(curves) };
        let mut chosen = Vec::new();
        for name in names {
            let before = chosen.len();
            chosen.extend(curves.iter().filter(|curve| curve.metric == *name).cloned());
            if chosen.len() == before {
                let mut known: Vec<&str> =
                    curves.iter().map(|curve| curve.metric.as_str()).collect();
                known.sort_unstable();
                known.dedup();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Error::not_found(format!(
                    "there is no metric `{}` to plot; there is {known}",
                    name.escape_debug()
                )));
            }
        }
        Ok(chosen)
    }

    /// The curves by what they are of, without those that have nothing to show.
    fn charts(&self, curves: Vec<Curve>) -> Result<Vec<(String, Vec<Curve>)>> {
        let mut charts: Vec<(String, Vec<Curve>)> = Vec::new();
        let mut unusable = Vec::new();
        for mut curve in curves {
            if self.log {
                curve.points.retain(|(_, value)| *value > 0.0);
                curve.points.iter_mut().for_each(|(_, value)| *value = value.log10());
            }
            if curve.points.is_empty() {
                unusable.push(curve.metric);
                continue;
            }
            let thing = thing(&curve.metric);
            match charts.iter_mut().find(|(name, _)| *name == thing) {
                Some((_, curves)) => curves.push(curve),
                None => charts.push((thing, vec![curve])),
            }
        }
        if charts.is_empty() {
            let what = if self.log { "a positive number" } else { "a number" };
            let which = if unusable.is_empty() {
                "no metric is on record".to_owned()
            } else {
                format!("no value of {} is {what}", unusable.join(", "))
            };
            return Err(Error::not_found(format!("there is nothing to plot: {which}"))
                .with_hint("report numbers with `ctx.metric(name, value)`"));
        }
        Ok(charts)
    }

    fn chart<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        name: &str,
        curves: &[Curve],
        several: bool,
        colors: &mut impl Iterator<Item = &'a RGBColor>,
    ) -> Result<()> {
        let all = || curves.iter().flat_map(|curve| curve.points.iter());
        let (x, y) = (around(all().map(|(x, _)| *x)), around(all().map(|(_, y)| *y)));
        let mut chart = ChartBuilder::on(area)
            .caption(one_line(name, 100), ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        self.mesh(&mut chart)?;
        for (curve, color) in curves.iter().zip(colors) {
            let label = if several {
                format!("{} {}", one_line(&curve.of, 40), one_line(&curve.metric, 40))
            } else {
                one_line(&curve.metric, 60)
            };
            // A line of one point is not seen.
            if let [only] = curve.points.as_slice() {
                chart.draw_series([Circle::new(*only, 3, color.filled())]).map_err(failed)?;
            }
            let line = LineSeries::new(curve.points.iter().copied(), color.stroke_width(2));
            let color = *color;
            let legend = move |(x, y): (i32, i32)| {
                Rectangle::new([(x, y - 1), (x + 16, y + 1)], color.filled())
            };
            chart.draw_series(line).map_err(failed)?.label(label).legend(legend);
        }
        let mut labels = chart.configure_series_labels();
        labels
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .position(SeriesLabelPosition::UpperRight);
        labels.draw().map_err(failed)
    }

    fn mesh(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    ) -> Result<()> {
        let value = |y: &f64| if self.log { brief(10_f64.powf(*y)) } else { brief(*y) };
        let step = |x: &f64| if x.fract() == 0.0 { format!("{x}") } else { String::new() };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .axis_style(TRANSPARENT)
            .x_desc("step")
            .x_label_formatter(&step)
            .y_label_formatter(&value)
            .draw()
            .map_err(failed)
    }
}

impl fmt::Debug for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plot({} runs, {} series)", self.runs.len(), self.series.len())
    }
}

impl JobRun {
    /// A plot of what it measured so far, also while it runs; see [`Plot`].
    pub fn plot(&self) -> Plot {
        Plot::new().run(self)
    }
}

impl Curve {
    fn new(of: String, metric: String, series: &Series) -> Self {
        let finite = series.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        let points = Series { points: finite }.downsample(POINTS).points;
        Curve {
            of,
            metric,
            points: points
                .into_iter()
                .map(|(step, value)| (step as f64, value.clamp(-LARGEST, LARGEST)))
                .collect(),
        }
    }
}

/// What a metric is of: `loss` for `train_loss`, `val/loss` and `loss.test`.
fn thing(metric: &str) -> String {
    const PARTS: [&str; 7] = ["train", "training", "val", "valid", "validation", "test", "eval"];
    let is_part = |text: &str| PARTS.contains(&text.to_ascii_lowercase().as_str());
    let separator = ['_', '/', '.', '-', ':'];
    match (metric.split_once(separator), metric.rsplit_once(separator)) {
        (Some((part, rest)), _) if is_part(part) && !rest.is_empty() => rest.to_owned(),
        (_, Some((rest, part))) if is_part(part) && !rest.is_empty() => rest.to_owned(),
        _ => metric.to_owned(),
    }
}

/// A range that holds all values and has a width that can be divided.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let least = low.abs().max(high.abs()).max(1e-9) * 1e-6;
    if high - low < least {
        let pad = if low == 0.0 && high == 0.0 { 1.0 } else { low.abs().max(high.abs()) * 0.1 };
        return low - pad..high + pad;
    }
    low..high
}

fn failed(error: impl fmt::Display) -> Error {
    Error::internal(format!("the plot cannot be drawn: {error}"))
}
