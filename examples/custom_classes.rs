//! A model, an executor and a persistor of one's own: previewed, exported, trained, and loaded again.
//!
//! - The model has a frozen layer of random features and a head that is trained.
//! - The executor loads the rows of a site from the file of digits, and reports one more metric.
//! - The persistor keeps only the head, in 8-bit numbers, under file names of its own.
//!
//! ```sh
//! cargo run --release --example custom_classes           # in a temporary folder
//! cargo run --release --example custom_classes -- FOLDER # keeps it
//! ```

use serde::{Deserialize, Serialize};
use std::{any::Any, collections::BTreeMap, fs, path::PathBuf, time::Duration};
use superduper::{
    federated::{
        ClientExecutor, DefaultExecutor, FedAvg, FederatedModel, FederatedTraining, ModelConfig,
        ModelPersistor, ModelTrainer, PersistContext, Reply, Site, SiteContext, SiteData, State,
        Task, Tested, Trained, federates,
    },
    prelude::*,
    train::Rng,
};

/// The side of an image, in pixels.
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
const SITES: usize = 5;
/// The rows of the file of digits.
const DIGITS: usize = 1797;

/// The data of a site: a part of the file of digits, by its number. The rows are read where the site
/// trains.
#[derive(Debug, Serialize, Deserialize)]
struct Shard {
    number: usize,
}

#[typetag::serde(name = "custom_classes.Shard")]
impl SiteData for Shard {
    fn rows(&self) -> u64 {
        (DIGITS - self.number).div_ceil(SITES + 1) as u64
    }

    fn classes(&self) -> Option<usize> {
        Some(10)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Images, row after row, and their labels.
#[derive(Debug, Serialize, Deserialize)]
struct Images {
    pixels: Vec<f32>,
    labels: Vec<usize>,
}

#[typetag::serde(name = "custom_classes.Images")]
impl SiteData for Images {
    fn rows(&self) -> u64 {
        self.labels.len() as u64
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Random features and a linear head.
#[derive(Component)]
#[component(kind = "custom_classes.RandomFeatures", source)]
struct RandomFeatures {
    identifier: String,
    #[component(breaking)]
    num_classes: usize, // the training sets it
    /// How many features there are.
    #[component(breaking, default = 64)]
    width: usize,
}
federates!(RandomFeatures);

#[source]
impl RandomFeatures {
    /// The outputs of the frozen layer, which are not negative.
    fn features(&self, backbone: &[f32], pixels: &[f32]) -> Vec<f32> {
        let unit = |weights: &[f32]| {
            let sum: f32 = weights.iter().zip(pixels).map(|(weight, pixel)| weight * pixel).sum();
            sum.max(0.0)
        };
        backbone.chunks(PIXELS).map(unit).collect()
    }

    /// The probability of each class.
    fn probabilities(&self, head: &[f32], features: &[f32]) -> Vec<f32> {
        let score = |weights: &[f32]| -> f32 {
            weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
        };
        let scores: Vec<f32> = head.chunks(self.width).map(score).collect();
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    }
}

#[source]
impl FederatedModel for RandomFeatures {
    fn initial(&self, _num_classes: usize, seed: u64) -> Result<Tensors> {
        let mut rng = Rng::named(seed, "backbone");
        let scale = (2.0 / PIXELS as f64).sqrt();
        let backbone: Vec<f32> =
            (0..self.width * PIXELS).map(|_| (rng.normal() * scale) as f32).collect();
        let head = vec![0.0_f32; self.num_classes * self.width];
        Tensors::new().with("backbone", &[self.width, PIXELS], &backbone)?.with(
            "head",
            &[self.num_classes, self.width],
            &head,
        )
    }

    fn train(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Trained> {
        let data = ctx.data_as::<Images>()?;
        let backbone = ctx.block_on(weights.to_vec::<f32>("backbone"))?;
        let mut head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let step: f32 = ctx.arg("learning_rate")?;
        let mut loss = 0.0;
        for _ in 0..ctx.arg::<u64>("local_epochs")? {
            loss = 0.0;
            for (pixels, label) in data.pixels.chunks(PIXELS).zip(&data.labels) {
                ctx.check_abort()?;
                let features = self.features(&backbone, pixels);
                let found = self.probabilities(&head, &features);
                loss -= f64::from(found[*label].max(1e-9).ln()) / data.labels.len() as f64;
                for (class, weights) in head.chunks_mut(self.width).enumerate() {
                    let wanted = if class == *label { 1.0 } else { 0.0 };
                    let change = step * (wanted - found[class]);
                    weights.iter_mut().zip(&features).for_each(|(weight, x)| *weight += change * x);
                }
            }
        }
        let samples = data.rows();
        let weights = weights.with("head", &[self.num_classes, self.width], &head)?;
        Ok(Trained { weights, samples, metrics: BTreeMap::from([("loss".into(), loss)]) })
    }

    fn test(&self, weights: Tensors, ctx: &mut SiteContext<'_>) -> Result<Tested> {
        let data = ctx.data_as::<Images>()?;
        let backbone = ctx.block_on(weights.to_vec::<f32>("backbone"))?;
        let head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let right = data.pixels.chunks(PIXELS).zip(&data.labels).filter(|(pixels, label)| {
            let found = self.probabilities(&head, &self.features(&backbone, pixels));
            let best = found.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
            best.is_some_and(|(class, _)| class == **label)
        });
        let accuracy = right.count() as f64 / data.labels.len() as f64;
        let metrics = BTreeMap::from([("accuracy".into(), accuracy)]);
        Ok(Tested { samples: data.rows(), metrics })
    }

    /// The network takes gray images of 8 × 8 pixels.
    fn dry_forward(&self, images: [usize; 4], _num_classes: usize) -> Result<Option<Vec<usize>>> {
        let [batch, _, height, width] = images;
        if height * width != PIXELS {
            return Err(Error::invalid(format!("images of {height} × {width} pixels"))
                .with_hint(format!("set `config.img_size` to {SIDE}")));
        }
        let backbone = vec![0.0; self.width * PIXELS];
        let head = vec![0.0; self.num_classes * self.width];
        let features = self.features(&backbone, &[0.0; PIXELS]);
        Ok(Some(vec![batch, self.probabilities(&head, &features).len()]))
    }
}

/// Loads the rows of a site from the file of digits, and reports the share of dark pixels.
#[source]
#[derive(Debug, Serialize, Deserialize)]
struct Loading {}

#[source]
impl Loading {
    /// The rows of a shard. Shard number `SITES` is the data of the coordinator, on which no site
    /// trains.
    fn load(&self, number: usize) -> Result<Images> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        let file = include_str!("data/digits.csv");
        for (row, line) in file.lines().enumerate().filter(|(row, _)| row % (SITES + 1) == number) {
            let values: Vec<f32> = line
                .split(',')
                .map(|value| value.trim().parse().map_err(Error::other))
                .collect::<Result<_>>()
                .context(format!("line {row} of the digits"))?;
            pixels.extend(values[..PIXELS].iter().map(|pixel| pixel / 16.0));
            labels.push(values[PIXELS] as usize);
        }
        Ok(Images { pixels, labels })
    }
}

#[source]
#[typetag::serde(name = "custom_classes.Loading")]
impl ClientExecutor for Loading {
    fn execute(&self, task: &Task, tensors: Tensors, ctx: &mut SiteContext<'_>) -> Result<Reply> {
        let images = self.load(ctx.data_as::<Shard>()?.number)?;
        let dark = images.pixels.iter().filter(|pixel| **pixel > 0.5).count();
        let dark = dark as f64 / images.pixels.len() as f64;
        ctx.replace_data(images);
        let mut reply = DefaultExecutor {}.execute(task, tensors, ctx)?;
        reply.metrics.insert("dark".into(), dark);
        Ok(reply)
    }
}

/// Keeps the head in 8-bit numbers: a scale, then a byte for each weight.
#[source]
#[derive(Debug, Serialize, Deserialize)]
struct EightBitHead {
    folder: PathBuf,
}

#[source]
#[typetag::serde(name = "custom_classes.EightBitHead")]
impl ModelPersistor for EightBitHead {
    fn save(
        &self,
        weights: &Tensors,
        rounds: u64,
        ctx: &PersistContext<'_>,
    ) -> Result<Option<Tensors>> {
        let head = ctx.block_on(weights.to_vec::<f32>("head"))?;
        let most = head.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let scale = most / 127.0;
        let mut bytes = scale.to_le_bytes().to_vec();
        bytes.extend(head.iter().map(|value| (value / scale).round() as i8 as u8));
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join(format!("head-{rounds:03}.i8")), bytes)?;
        // The next round starts from what can be read again.
        self.get(&format!("head-{rounds:03}"), ctx).map(Some)
    }

    fn inventory(&self, _ctx: &PersistContext<'_>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".i8").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn get(&self, name: &str, ctx: &PersistContext<'_>) -> Result<Tensors> {
        let bytes = fs::read(self.folder.join(format!("{name}.i8")))?;
        let (scale, bytes) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| Error::integrity(format!("`{name}` is too short")))?;
        let scale = f32::from_le_bytes(*scale);
        let head: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte as i8) * scale).collect();
        // The frozen layer is a function of the seed.
        let model = ctx.initial()?;
        let shape = model.info("head").map(|info| info.shape.clone()).unwrap_or_default();
        model.with("head", &shape, &head)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let temporary = tempfile::Builder::new().prefix("superduper-custom-").tempdir()?;
    let folder = std::env::args().nth(1).map_or(temporary.path().to_owned(), PathBuf::from);
    let db = Db::open(&folder).await?;

    let model = ModelConfig::new::<RandomFeatures>().arg("width", 128)?;
    let sites = (0..SITES).map(|number| Site::new(format!("site{number}"), Shard { number }));
    let mut training = FederatedTraining::new("custom", model, FedAvg {}).sites(sites).rounds(10);
    training.config.img_size = SIDE;
    training.config.learning_rate = 0.05;
    training.central = Some(Site::new("coordinator", Shard { number: SITES }));
    training.executor = Box::new(Loading {});
    training.persistor = Box::new(EightBitHead { folder: folder.join("heads") });

    let preview = training.preview(&db).await?;
    println!("{preview}");
    let exported = preview.export(folder.join("job")).await?;
    println!("{} files of hash {} are exported", exported.files, exported.hash);

    db.apply(training).await?;
    let trainer = ModelTrainer::open(&db, "custom").await?;
    let state = trainer.wait(Duration::from_secs(600)).await?;
    if state != State::Completed {
        return Err(Error::invalid(format!("{state}: {}", trainer.failures().await?.join("; "))));
    }
    let metrics = trainer.progress().await?.metrics;
    println!("\naccuracy {:.3}", metrics["central/accuracy"]);

    let names = trainer.saved_models().await?;
    let last = names.last().ok_or_else(|| Error::invalid("no model was saved"))?;
    let head = trainer.saved_model(last).await?.to_vec::<f32>("head").await?;
    let size = fs::metadata(folder.join("heads").join(format!("{last}.i8")))?.len();
    println!("{} models; {last} has {} weights in {size} bytes", names.len(), head.len());
    Ok(())
}
