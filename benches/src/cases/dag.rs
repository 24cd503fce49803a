//! Jobs: many triggers of one component, a trigger of many components, and jobs that a job asks
//! for.

use super::{number, text};
use crate::{
    components::{ORDER, Spawner, fanout, take_calls},
    database::{Counted, count, count_rows},
    driver::{Driver, Report},
    measure::{Figures, round},
};
use serde_json::{Value, json};
use std::sync::PoisonError;
use superduper::{AsComponent, prelude::*, store::JobFilter};

/// A component type whose triggers are listed, each with the one it waits for.
macro_rules! component_with_triggers {
    ($name:ident: $($trigger:ident $(after $before:literal)?),* $(,)?) => {
        #[derive(Component)]
        struct $name {
            identifier: String,
            x: i64,
        }

        #[triggers]
        impl $name {
            $(
                #[trigger("apply" $(, depends_on = $before)?)]
                async fn $trigger(&self) -> Result<()> {
                    ORDER.lock().unwrap_or_else(PoisonError::into_inner).push(stringify!($trigger));
                    Ok(())
                }
            )*
        }
    };
}

component_with_triggers!(Chain10: t000, t001 after "t000", t002 after "t001", t003 after "t002", t004 after "t003", t005 after "t004",
    t006 after "t005", t007 after "t006", t008 after "t007", t009 after "t008");
component_with_triggers!(Wide100: t000, t001, t002, t003, t004, t005, t006, t007, t008, t009, t010, t011, t012, t013, t014, t015,
    t016, t017, t018, t019, t020, t021, t022, t023, t024, t025, t026, t027, t028, t029, t030, t031, t032, t033, t034, t035, t036,
    t037, t038, t039, t040, t041, t042, t043, t044, t045, t046, t047, t048, t049, t050, t051, t052, t053, t054, t055, t056, t057,
    t058, t059, t060, t061, t062, t063, t064, t065, t066, t067, t068, t069, t070, t071, t072, t073, t074, t075, t076, t077, t078,
    t079, t080, t081, t082, t083, t084, t085, t086, t087, t088, t089, t090, t091, t092, t093, t094, t095, t096, t097, t098, t099);
component_with_triggers!(Chain100: t000, t001 after "t000", t002 after "t001", t003 after "t002", t004 after "t003",
    t005 after "t004", t006 after "t005", t007 after "t006", t008 after "t007", t009 after "t008", t010 after "t009",
    t011 after "t010", t012 after "t011", t013 after "t012", t014 after "t013", t015 after "t014", t016 after "t015",
    t017 after "t016", t018 after "t017", t019 after "t018", t020 after "t019", t021 after "t020", t022 after "t021",
    t023 after "t022", t024 after "t023", t025 after "t024", t026 after "t025", t027 after "t026", t028 after "t027",
    t029 after "t028", t030 after "t029", t031 after "t030", t032 after "t031", t033 after "t032", t034 after "t033",
    t035 after "t034", t036 after "t035", t037 after "t036", t038 after "t037", t039 after "t038", t040 after "t039",
    t041 after "t040", t042 after "t041", t043 after "t042", t044 after "t043", t045 after "t044", t046 after "t045",
    t047 after "t046", t048 after "t047", t049 after "t048", t050 after "t049", t051 after "t050", t052 after "t051",
    t053 after "t052", t054 after "t053", t055 after "t054", t056 after "t055", t057 after "t056", t058 after "t057",
    t059 after "t058", t060 after "t059", t061 after "t060", t062 after "t061", t063 after "t062", t064 after "t063",
    t065 after "t064", t066 after "t065", t067 after "t066", t068 after "t067", t069 after "t068", t070 after "t069",
    t071 after "t070", t072 after "t071", t073 after "t072", t074 after "t073", t075 after "t074", t076 after "t075",
    t077 after "t076", t078 after "t077", t079 after "t078", t080 after "t079", t081 after "t080", t082 after "t081",
    t083 after "t082", t084 after "t083", t085 after "t084", t086 after "t085", t087 after "t086", t088 after "t087",
    t089 after "t088", t090 after "t089", t091 after "t090", t092 after "t091", t093 after "t092", t094 after "t093",
    t095 after "t094", t096 after "t095", t097 after "t096", t098 after "t097", t099 after "t098");

/// The sizes of runs that grow by jobs.
const SPAWNED: [usize; 3] = [1_000, 10_000, 100_000];

pub(crate) fn dag(driver: &Driver) -> Result<()> {
    for shape in ["chain", "wide", "fanout"] {
        let result = driver.go_alone("dag", json!({"shape": shape}))?;
        driver.emit_operations("d_dag", &vec![("shape", json!(shape)), ("n", json!(100))], &result);
    }
    for shape in ["spawned_async", "spawned_sync"] {
        for n in driver.options.n.map_or(SPAWNED.to_vec(), |n| vec![n]) {
            let result = driver.go_alone("spawned", json!({"shape": shape, "n": n}))?;
            driver.emit_operations(
                "d_dag",
                &vec![("shape", json!(shape)), ("n", json!(n))],
                &result,
            );
        }
    }
    Ok(())
}

pub(crate) async fn dag_worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let mut report = Report::default();
    let shape = text(parameters, "shape");
    for what in ["without jobs", "with jobs"] {
        let (identifier, jobs) = (what.replace(' ', "_"), what == "with jobs");
        let mut figures = match shape {
            "chain" => apply(&opened, Chain100 { identifier, x: 1 }, jobs).await?,
            "wide" => apply(&opened, Wide100 { identifier, x: 1 }, jobs).await?,
            _ => apply(&opened, fanout(&identifier, 100), jobs).await?,
        };
        let order = take_order();
        let ran = if shape == "fanout" { number(&take_calls(), "work") } else { order.len() };
        figures.insert("user_triggers_run".to_owned(), json!(ran));
        if shape == "chain" && jobs {
            figures.insert("in_order".to_owned(), json!(order.is_sorted()));
        }
        report.add(what, figures);
    }
    Ok(report.done())
}

async fn apply(opened: &Counted, component: impl AsComponent, jobs: bool) -> Result<Figures> {
    let (_, mut figures) =
        opened.time(async { opened.db.apply(component).jobs(jobs).await }).await?;
    let recorded = opened.db.jobs(JobFilter::default()).await?.len();
    figures.insert("jobs".to_owned(), json!(recorded));
    if recorded > 0 {
        let cpu = figures["cpu_ms"].as_f64().unwrap_or(0.0);
        figures.insert("cpu_ms_per_job".to_owned(), round(cpu / recorded as f64));
    }
    Ok(figures)
}

/// One job asks for `n` jobs of its component that do nothing; all are durable.
pub(crate) async fn spawned_worker(parameters: &Value) -> Result<Value> {
    let opened = Counted::open().await?;
    let n = number(parameters, "n");
    let what = if text(parameters, "shape") == "spawned_sync" { "noop_sync" } else { "noop_async" }
        .to_owned();
    let mut report = Report::default();
    let before = count_rows(".".as_ref())?;
    let spawner = Spawner { identifier: "spawner".to_owned(), n, what };
    let (_, mut figures) = opened.time(async { opened.db.apply(spawner).await }).await?;
    let per_job = |total: f64| round(total / n as f64);
    let of = |figures: &Figures, name: &str| figures[name].as_f64().unwrap_or(0.0);
    figures.insert("cpu_us_per_job".to_owned(), per_job(of(&figures, "cpu_ms") * 1e3));
    figures.insert("wall_us_per_job".to_owned(), per_job(of(&figures, "wall_ms") * 1e3));
    figures.insert("statements_per_job".to_owned(), per_job(of(&figures, "statements")));
    figures.insert("rows_per_job".to_owned(), per_job((count_rows(".".as_ref())? - before) as f64));
    let bytes = count(
        ".".as_ref(),
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    )?;
    figures.insert("database_bytes_per_job".to_owned(), per_job(bytes as f64));
    figures.insert(
        "jobs".to_owned(),
        json!(count(".".as_ref(), "SELECT count(*) FROM job WHERE succeeded = 1")?),
    );
    report.add("with jobs", figures);
    Ok(report.done())
}

fn take_order() -> Vec<&'static str> {
    std::mem::take(&mut *ORDER.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a chain of so many triggers runs whole and in order.
pub(crate) async fn chain_in_order(opened: &Counted, n: usize) -> Result<bool> {
    take_order();
    match n {
        10 => opened.db.apply(Chain10 { identifier: "chain".to_owned(), x: 1 }).await?,
        _ => opened.db.apply(Chain100 { identifier: "chain".to_owned(), x: 1 }).await?,
    };
    let order = take_order();
    Ok(order.len() == n && order.is_sorted())
}
