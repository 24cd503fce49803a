//! The first program of the README: train a classifier, version it, and change it.
//!
//! ```sh
//! cargo run --release --example first
//! ```

use superduper::{
    candle::{Classifier, Evaluation, Table},
    prelude::*,
};

#[tokio::main]
async fn main() -> Result<()> {
    // 400 points of the unit square, and on which side of a diagonal each one is.
    let points: Vec<f32> = (0..800).map(|i| (i * 7919 % 1000) as f32 / 1000.0).collect();
    let sides = points.chunks(2).map(|point| u32::from(point[0] + point[1] > 1.0)).collect();
    let table = Artifact::new(Table::new(2, points, sides)?);

    let model = Classifier::builder("sides").table(table).inputs(2).classes(2);
    let model = model.hidden(vec![8]).epochs(200).build()?;

    let db = Db::open("sides.db").await?; // a folder; it is made if it does not exist
    println!("{}", db.plan(&model).await?); // what `apply` would do; nothing is written
    let applied = db.apply(model).await?; // stores the model, then trains and evaluates it

    let scores = applied.result::<Option<Evaluation>>("evaluate")?;
    println!("accuracy {:.2}", scores.map_or(0.0, |scores| scores.accuracy));
    Ok(())
}
