//! The quantization that a checkpoint's configuration declares.

use std::path::Path;

use kquant_formats::{json, whole};
use serde_json::Value as Json;

/// The quantization of a checkpoint's weights.
#[derive(Debug, Clone)]
pub struct Quantization {
    /// Name of the method, `quant_method` in the configuration.
    pub method: String,
    /// Description of the settings in a few words: `4 bits, groups of 128`.
    pub details: String,
    /// The reason why the weights cannot be read, with what to do; `None` if they can.
    pub refusal: Option<String>,
    /// Name of the file that holds the settings.
    pub(super) file: &'static str,
    /// True if the model's computation differs from that with plain weights, so that these alone do not replace it.
    pub(super) computes: bool,
    pub(super) scheme: Scheme,
    /// Numbers of rows and columns that share a scale.
    pub(super) block: Option<[u64; 2]>,
}

/// The layout of codes and scales.
#[derive(Debug, Clone, Default)]
pub(super) enum Scheme {
    /// Weights are 8-bit floats or integers with scales, or not quantized.
    #[default]
    Plain,
    /// Weights are in the layout of GPTQ.
    Gptq {
        /// Number of bits of a code; shapes decide if the configuration does not say.
        bits: Option<u64>,
        group: Group,
        /// Number that is added to stored zero points.
        add: f32,
    },
    /// Weights are in the `gemm` layout of AWQ, with 4 bits.
    Awq { group: Group },
    /// Weights are in the layout of compressed-tensors, with the numbers of bits that some of them have.
    Compressed { bits: Vec<u64> },
}

/// The columns that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// The configuration does not say.
    Unknown,
    /// All columns of a row share a scale.
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

/// Names of files that hold the settings if `config.json` does not, with their method.
const OWN_FILES: [(&str, &str); 2] = [("quantize_config.json", "gptq"), ("quant_config.json", "awq")];

impl Quantization {
    /// Reads the settings in the files of `folder`; `None` if nothing is quantized.
    ///
    /// A configuration that is missing or malformed is reported where it is needed; listing a checkpoint does not need
    /// it.
    ///
    /// # Errors
    /// Fails when there is a separate file of settings that cannot be read; the text names the file, the cause and what
    /// to do.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, String> {
        let config = settings(folder, CONFIG).unwrap_or_default();
        // In models with several parts, the settings are those of the text model.
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

    /// Creates the description of the settings in `file`, which may name their method and otherwise have the method
    /// `method`.
    fn of(file: &'static str, config: &Json, method: Option<&str>) -> Self {
        let text = |key: &str| config.get(key).and_then(Json::as_str);
        // Early versions of bitsandbytes did not name the method.
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

    /// Returns true if the weights are approximations of what they were before, which holds for all formats but those
    /// that models are published in.
    pub fn is_lossy(&self) -> bool {
        self.method != "mxfp4"
    }

    /// Returns the method and its details.
    pub fn describe(&self) -> String {
        match self.details.as_str() {
            "" => self.method.clone(),
            details => format!("{}, {details}", self.method),
        }
    }
}

/// Name of the file with the settings of most methods.
const CONFIG: &str = "config.json";
/// Name of the file with the settings of modelopt.
const MODELOPT: &str = "hf_quant_config.json";

/// Returns the JSON in file `name` of `folder`, if there is one.
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

/// Name for the method of settings that name none.
const UNKNOWN: &str = "unknown";

/// Key of the settings' object.
const KEY: &str = "quantization_config";

/// Returns the numbers of rows and columns that share a scale, if a scale is for a block: `weight_block_size`, or
/// compressed-tensors' `block_structure`.
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
    // With exceptions for single modules, shapes decide.
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

/// Returns true if compressed-tensors' settings transform activations while the model runs.
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
