//! What a configuration says of how its weights are quantized.

use std::path::Path;

use kquant_formats::{json, whole};
use serde_json::Value as Json;

/// How a checkpoint's weights are quantized.
#[derive(Debug, Clone)]
pub struct Quantization {
    /// The method's name, `quant_method` of the configuration.
    pub method: String,
    /// What the configuration says of it, in a few words: `4 bits, groups of 128`.
    pub details: String,
    /// Why the weights cannot be read, and what to do.
    pub refusal: Option<String>,
    /// Name of the file that says so.
    pub(super) file: &'static str,
    /// Whether the model computes something else than with plain weights, so that these alone do not make it up.
    pub(super) computes: bool,
    pub(super) scheme: Scheme,
    /// Rows and columns that share a scale.
    pub(super) block: Option<[u64; 2]>,
}

/// Where to find codes and scales.
#[derive(Debug, Clone, Default)]
pub(super) enum Scheme {
    /// 8-bit floats or integers with scales, or nothing.
    #[default]
    Plain,
    /// GPTQ.
    Gptq {
        /// Of a code; the shapes tell where the configuration does not.
        bits: Option<u64>,
        group: Group,
        /// What is added to stored zero points.
        add: f32,
    },
    /// AWQ: 4 bits, the `gemm` layout.
    Awq { group: Group },
    /// compressed-tensors: bits that some of the weights have.
    Compressed { bits: Vec<u64> },
}

/// Columns that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Not said.
    Unknown,
    /// All of a row.
    Row,
    Of(u64),
}

impl Group {
    fn read(config: &Json, key: &str) -> Self {
        match config.get(key).and_then(Json::as_i64) {
            None => Self::Unknown,
            Some(-1) => Self::Row,
            Some(size) => Self::Of(size.unsigned_abs()),
        }
    }

    fn tell(self) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Row => Some("a scale per row".into()),
            Self::Of(size) => Some(format!("groups of {size}")),
        }
    }
}

/// Files that hold the settings where `config.json` does not, and the method they belong to.
const OWN_FILES: [(&str, &str); 2] = [("quantize_config.json", "gptq"), ("quant_config.json", "awq")];

impl Quantization {
    /// What the files of `folder` say; `None` if nothing is quantized.
    ///
    /// A configuration that is missing or malformed is reported by whoever needs it; a checkpoint that is only looked at does not.
    ///
    /// # Errors
    /// When a file of settings alone is there and cannot be read; the text says which, why and what to do.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, String> {
        let config = settings(folder, CONFIG).unwrap_or_default();
        // Of models with several parts the text's.
        let within = |config: &Json| {
            let text = config.get("text_config").and_then(|text| text.get(KEY));
            config.get(KEY).or(text).filter(|c| c.is_object()).cloned()
        };
        let own = config.as_ref().and_then(within).map(|found| Self::of(CONFIG, &found, None));
        if own.as_ref().is_some_and(|own| own.method != UNKNOWN) {
            return Ok(own);
        }
        if let Some(found) = settings(folder, MODELOPT)?.and_then(|c| c.get("quantization").cloned()) {
            return Ok(Some(Self::of(MODELOPT, &found, Some("modelopt"))));
        }
        for (name, method) in OWN_FILES {
            if let Some(found) = settings(folder, name)? {
                return Ok(Some(Self::of(name, &found, Some(method))));
            }
        }
        Ok(own)
    }

    /// Of settings in `file` that may name their method, else are `method`'s.
    fn of(file: &'static str, config: &Json, method: Option<&str>) -> Self {
        let text = |key: &str| config.get(key).and_then(Json::as_str);
        // bitsandbytes did not always name itself.
        let loaded =
            ["load_in_4bit", "load_in_8bit"].iter().any(|key| config.get(key) == Some(&Json::Bool(true)));
        let method = text("quant_method").or(method).unwrap_or(if loaded { "bitsandbytes" } else { UNKNOWN });
        let method = method.to_ascii_lowercase();
        let read = match method.as_str() {
            "gptq" => gptq(config),
            "awq" => awq(config),
            "compressed-tensors" => compressed(config),
            "fp8" | "fbgemm_fp8" => Ok((Scheme::Plain, "8-bit floats".into())),
            "modelopt" => modelopt(config),
            "mxfp4" => Ok((Scheme::Plain, "4-bit floats, groups of 32".into())),
            _ => Err(format!("the method `{method}` is not supported")),
        };
        let block = block(config);
        let computes = turns(config) || (method == "bitnet" && text("quantization_mode") == Some("online"));
        match read {
            Ok((scheme, details)) => Self { method, details, refusal: None, file, computes, scheme, block },
            Err(what) => {
                let refusal = Some(format!(
                    "the weights are quantized ({method}) and cannot be read: {what}. Give the original checkpoint \
                     (its name is mostly in the model card, as `base_model`), or one in gptq, awq, compressed-tensors, \
                     fp8 or mxfp4"
                ));
                Self { method, details: String::new(), refusal, file, computes, scheme: Scheme::Plain, block }
            }
        }
    }

    /// Whether the weights are no more what they were before: everything but formats that models are published in.
    pub fn is_lossy(&self) -> bool {
        self.method != "mxfp4"
    }

    /// Method and details.
    pub fn describe(&self) -> String {
        match self.details.as_str() {
            "" => self.method.clone(),
            details => format!("{}, {details}", self.method),
        }
    }
}

/// The files of the settings that most methods and modelopt have.
const CONFIG: &str = "config.json";
const MODELOPT: &str = "hf_quant_config.json";

/// The JSON in file `name` of `folder`, if there is one.
fn settings(folder: &Path, name: &str) -> Result<Option<Json>, String> {
    let path = folder.join(name);
    let Some(text) = whole::read_if_there(&path, whole::CONFIGURATION).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    json::parse(&text).map(Some).map_err(|e| {
        format!(
            "{} is not valid JSON: {e}; it says how the weights are quantized: fetch it again",
            path.display()
        )
    })
}

/// The method of settings that name none.
const UNKNOWN: &str = "unknown";

/// The object of the settings.
const KEY: &str = "quantization_config";

/// Rows and columns that share a scale, where a scale is for a block: `weight_block_size`, or compressed-tensors'
/// `block_structure`.
fn block(config: &Json) -> Option<[u64; 2]> {
    let groups = config.get("config_groups").and_then(Json::as_object);
    let own = |group: &Json| group.get("weights")?.get("block_structure").filter(|b| !b.is_null()).cloned();
    let block = config.get("weight_block_size").filter(|b| !b.is_null()).cloned();
    let block = block.or_else(|| groups?.values().find_map(own))?;
    Some([block.get(0)?.as_u64()?, block.get(1)?.as_u64()?])
}

type Read = Result<(Scheme, String), String>;

fn gptq(config: &Json) -> Read {
    let format = config.get("checkpoint_format").and_then(Json::as_str).unwrap_or("gptq");
    let add = match format {
        "gptq" => 1.0,
        "gptq_v2" => 0.0,
        other => return Err(format!("`checkpoint_format` is `{other}`, not `gptq` or `gptq_v2`")),
    };
    if config.get("is_marlin_format") == Some(&Json::Bool(true)) {
        return Err("the layout is Marlin's (`is_marlin_format`), not `gptq`".into());
    }
    let (bits, group) = (config.get("bits").and_then(Json::as_u64), Group::read(config, "group_size"));
    if let Some(bits) = bits.filter(|bits| ![2, 3, 4, 8].contains(bits)) {
        return Err(format!("{bits} bits (`bits`) are none of 2, 3, 4 and 8"));
    }
    let ordered = config.get("desc_act") == Some(&Json::Bool(true));
    let details =
        [bits.map(tell_bits), group.tell(), ordered.then(|| "columns in order of activations".into())];
    // With exceptions for single modules, shapes tell.
    let exceptions = config.get("dynamic").is_some_and(|d| d.as_object().is_some_and(|d| !d.is_empty()));
    let (bits, group) = if exceptions { (None, Group::Unknown) } else { (bits, group) };
    Ok((Scheme::Gptq { bits, group, add }, listed(details)))
}

fn tell_bits(bits: u64) -> String {
    format!("{bits} bits")
}

fn listed(details: impl IntoIterator<Item = Option<String>>) -> String {
    details.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn awq(config: &Json) -> Read {
    let any = |keys: [&str; 2]| {
        keys.into_iter().find(|key| config.get(key).is_some()).unwrap_or(keys[0]).to_owned()
    };
    let version = config.get("version").and_then(Json::as_str).unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(format!("`version` is `{version}`, not `gemm`"));
    }
    let bits = config.get(any(["bits", "w_bit"])).and_then(Json::as_u64).unwrap_or(4);
    if bits != 4 {
        return Err(format!("{bits} bits (`bits`) are not 4"));
    }
    let group = Group::read(config, &any(["group_size", "q_group_size"]));
    Ok((Scheme::Awq { group }, listed([Some(tell_bits(bits)), group.tell()])))
}

/// Whether compressed-tensors' settings transform activations while the model runs.
fn turns(config: &Json) -> bool {
    let groups = config.get("transform_config").and_then(|c| c.get("config_groups"));
    groups.and_then(Json::as_object).is_some_and(|groups| !groups.is_empty())
}

fn compressed(config: &Json) -> Read {
    const FORMATS: [&str; 8] = [
        "pack-quantized",
        "int-quantized",
        "float-quantized",
        "naive-quantized",
        "nvfp4-pack-quantized",
        "mxfp4-pack-quantized",
        "mixed-precision",
        "dense",
    ];
    let sparse = config.get("sparsity_config").and_then(|c| c.get("format")).and_then(Json::as_str);
    if let Some(format) = sparse.filter(|&format| format != "dense") {
        return Err(format!("`sparsity_config` says `{format}`: weights without their zeros"));
    }
    if turns(config) {
        return Err("`transform_config` says that activations are transformed while the model runs".into());
    }
    let groups: Vec<&Json> = config
        .get("config_groups")
        .and_then(Json::as_object)
        .map(|g| g.values().collect())
        .unwrap_or_default();
    let formats = std::iter::once(config).chain(groups.iter().copied());
    let formats: Vec<&str> = formats.filter_map(|c| c.get("format").and_then(Json::as_str)).collect();
    if let Some(format) = formats.iter().find(|format| !FORMATS.contains(format)) {
        return Err(format!("the format `{format}` is not supported"));
    }
    let mut bits = Vec::new();
    let mut details = Vec::new();
    for weights in groups.iter().filter_map(|group| group.get("weights")).filter(|w| w.is_object()) {
        let own = weights.get("num_bits").and_then(Json::as_u64);
        if let Some(own) = own.filter(|own| !(1..=8).contains(own)) {
            return Err(format!("{own} bits (`num_bits`) are not 1 to 8"));
        }
        bits.extend(own);
        let kind =
            if weights.get("type").and_then(Json::as_str) == Some("float") { "floats" } else { "integers" };
        let strategy = weights.get("strategy").and_then(Json::as_str);
        let group = match Group::read(weights, "group_size") {
            Group::Of(size) => Some(format!("groups of {size}")),
            _ => strategy.map(|strategy| format!("a scale per {strategy}")),
        };
        details.push(listed([own.map(|bits| format!("{bits}-bit {kind}")), group]));
    }
    bits.sort_unstable();
    bits.dedup();
    details.dedup();
    let format = config.get("format").and_then(Json::as_str).map(str::to_owned);
    Ok((Scheme::Compressed { bits }, listed(std::iter::once(format).chain([Some(details.join("; "))]))))
}

fn modelopt(config: &Json) -> Read {
    let algorithm = config.get("quant_algo").and_then(Json::as_str).unwrap_or("unknown");
    match algorithm {
        "FP8" | "NVFP4" | "W4A16_NVFP4" | "MIXED_PRECISION" => {
            Ok((Scheme::Compressed { bits: Vec::new() }, algorithm.to_owned()))
        }
        other => Err(format!("the algorithm `{other}` (`quant_algo`) is not supported")),
    }
}
