//! Comparisons of every tensor's type with llama.cpp's choice, for two trained models and made-up ones, for all file types,
//! with and without importance matrix. `scripts/recipe_golden.py` records the data.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::super::assign::choose_all;
use super::super::{
    FILE_TYPES, ModelFacts, Options, Overrides, TensorFacts, TensorType, assign, file_type, output_order,
};
use super::{block, names, recipe};

#[derive(Deserialize)]
struct Golden {
    facts: Facts,
    /// Type that every tensor has in the source.
    source: String,
    /// Shapes by name, where `blk.*` stands for every layer.
    tensors: BTreeMap<String, Vec<u64>>,
    /// Names in the order of the output, if they were recorded.
    order: Option<Vec<String>>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Facts {
    arch: String,
    layers: u32,
    heads: u32,
    heads_kv: u32,
    experts: u32,
}

#[derive(Deserialize)]
struct Run {
    file_type: String,
    weighted: bool,
    #[serde(default)]
    options: RecordedOptions,
    /// Sequences of types, layer by layer (`Q6_K*2 Q4_K`), or a single type for every layer. A matrix that is not listed has
    /// the base type, a vector the source's type.
    types: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RecordedOptions {
    pure: bool,
    leave_output_tensor: bool,
    output_tensor_type: Option<String>,
    token_embedding_type: Option<String>,
    tensor_types: Vec<(String, String)>,
}

fn golden(name: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recipes").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

impl Golden {
    fn model(&self, has_importance: bool) -> ModelFacts {
        let Facts { arch, layers, heads, heads_kv, experts } = &self.facts;
        let arch = arch.clone();
        ModelFacts {
            arch,
            layers: *layers,
            heads: *heads,
            heads_kv: *heads_kv,
            experts: *experts,
            has_importance,
        }
    }

    /// Returns names with their pattern and layer. Layers run backwards, since the order must not matter.
    fn names(&self) -> Vec<(String, &str, usize)> {
        let layers = |pattern: &str| if pattern.contains('*') { self.facts.layers as usize } else { 1 };
        let expand = |p: &str, i: usize| p.replace('*', &i.to_string());
        self.tensors
            .keys()
            .flat_map(|p| (0..layers(p)).rev().map(move |i| (expand(p, i), p.as_str(), i)))
            .collect()
    }

    fn tensors<'a>(&'a self, names: &'a [(String, &'a str, usize)]) -> Vec<TensorFacts<'a>> {
        names
            .iter()
            .map(|(name, pattern, _)| {
                let source = if name.contains("norm") { "F32" } else { &self.source };
                TensorFacts { name, shape: &self.tensors[*pattern], source: block(source) }
            })
            .collect()
    }
}

impl Run {
    fn options(&self) -> Options {
        let recorded = &self.options;
        let pairs = recorded.tensor_types.iter();
        let overrides = Overrides {
            leave_output_tensor: recorded.leave_output_tensor,
            output_tensor_type: recorded.output_tensor_type.as_deref().map(block),
            token_embedding_type: recorded.token_embedding_type.as_deref().map(block),
            tensor_types: pairs.map(|(p, t)| TensorType::parse(&format!("{p}={t}")).unwrap()).collect(),
            ..Overrides::default()
        };
        Options { pure: recorded.pure, overrides, ..Options::new(recipe(&self.file_type)) }
    }

    fn expected<'a>(&'a self, pattern: &str, layer: usize, tensor: &TensorFacts) -> &'a str {
        let Some(text) = self.types.get(pattern) else {
            let vector = tensor.shape.len() == 1;
            return if vector { tensor.source.name } else { recipe(&self.file_type).base.unwrap() };
        };
        let runs = text.split(' ').flat_map(|run| {
            let (name, count) = run.split_once('*').unwrap_or((run, "1"));
            std::iter::repeat_n(name, count.parse().unwrap())
        });
        if text.contains(['*', ' ']) { runs.clone().nth(layer).unwrap() } else { text }
    }
}

/// Compares every run of a file and returns the number of tensors compared.
fn compare(file: &str) -> usize {
    let golden = golden(file);
    let expanded = golden.names();
    let tensors = golden.tensors(&expanded);
    for run in &golden.runs {
        let (options, model) = (run.options(), golden.model(run.weighted));
        let choices = choose_all(&options, &model, &tensors).unwrap();
        let got = names(&choices);
        for (((name, pattern, layer), tensor), got) in expanded.iter().zip(&tensors).zip(&got) {
            let expected = run.expected(pattern, *layer, tensor);
            assert_eq!(*got, expected, "{file} {} weighted {}: {name}", run.file_type, run.weighted);
        }
        if file_type(&run.file_type).is_ok() {
            assert_eq!(assign(&options, &model, &tensors).unwrap(), choices, "{file} {}", run.file_type);
        }
    }
    tensors.len() * golden.runs.len()
}

/// Makes one test per recorded model, so that a failure names the model.
macro_rules! peer {
    ($($test:ident: $file:literal, $count:literal;)*) => {
        $(#[test] fn $test() { assert_eq!(compare(concat!($file, ".json")), $count); })*
    };
}

peer! {
    bailingmoe3: "bailingmoe3", 936;
    falcon_tied_ungrouped: "falcon-tied-ungrouped", 3240;
    falcon: "falcon", 9680;
    four_experts: "four-experts", 5200;
    gemma3n_options: "gemma3n-options", 936;
    gemma3n: "gemma3n", 4160;
    glm5_next: "glm5-next", 1656;
    gpt2_4m: "gpt2-4m", 3016;
    grouped_32_options: "grouped-32-options", 2034;
    grouped_32: "grouped-32", 9040;
    llama_5m: "llama-5m", 2262;
    llama_65b: "llama-65b", 22480;
    llama_70b: "llama-70b", 22480;
    mixtral: "mixtral", 10320;
    odds_and_ends: "odds-and-ends", 875;
    qwen2_72b: "qwen2-72b", 22480;
    rows_of_288_tied: "rows-of-288-tied", 350;
    rows_of_288: "rows-of-288", 1482;
    rows_of_300: "rows-of-300", 374;
    shared_experts: "shared-experts", 14120;
    ungrouped_30_tied_options: "ungrouped-30-tied-options", 1899;
    ungrouped_30_tied: "ungrouped-30-tied", 8440;
}

#[test]
fn order_is_the_peers() {
    for file in ["llama-5m.json", "gpt2-4m.json"] {
        let golden = golden(file);
        let names: Vec<String> = golden.names().into_iter().map(|(name, _, _)| name).collect();
        let ordered: Vec<String> = output_order(&names).into_iter().map(|i| names[i].clone()).collect();
        assert_eq!(Some(ordered), golden.order, "{file}");
    }
}

#[test]
fn recorded_runs_cover_every_file_type() {
    let mut seen: Vec<String> = Vec::new();
    for file in ["llama-5m.json", "gpt2-4m.json"] {
        seen.extend(golden(file).runs.into_iter().map(|run| run.file_type));
    }
    for file_type in FILE_TYPES {
        assert!(file_type.base.is_none() || seen.iter().any(|s| s == file_type.name), "{}", file_type.name);
    }
}
