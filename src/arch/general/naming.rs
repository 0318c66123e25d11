//! The parts of a model's name: `meta-llama/Llama-3.1-8B-Instruct` is organization, base name, version, size and
//! finetune.
//!
//! The rules are those of llama.cpp's converter (gguf-py's metadata heuristics), so that `general.*` keys agree.

/// The parts of a model's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Naming {
    pub name: Option<String>,
    pub organization: Option<String>,
    pub basename: Option<String>,
    pub finetune: Option<String>,
    pub version: Option<String>,
    pub size_label: Option<String>,
}

/// One dash-separated part of a name and the roles that it may have; a part can have several.
#[derive(Default)]
struct Part {
    text: String,
    basename: bool,
    size: bool,
    finetune: bool,
    version: bool,
    encoding: bool,
}

impl Part {
    fn undecided(&self) -> bool {
        !(self.basename || self.size || self.finetune || self.version || self.encoding)
    }
}

impl Naming {
    /// Reads `id`, which is a folder's name or `organization/name`, of a model of `parameters` weights.
    pub(super) fn of(id: &str, parameters: u64) -> Self {
        if id.contains(' ') {
            return Self { name: non_empty(title(id)), ..Self::default() };
        }
        let (organization, name) = match id.split_once('/') {
            // A leading dot marks a relative path, not an organization.
            Some((organization, name)) if organization.starts_with('.') => (None, name),
            Some((organization, name)) => (Some(organization), name),
            None => (None, id),
        };
        let mut parts: Vec<Part> = name
            .split('-')
            .filter(|text| !text.is_empty())
            .enumerate()
            .map(|(at, text)| classify(at, text, parameters))
            .collect();
        prefer_numeric_sizes(&mut parts);
        find_basename(&mut parts);

        let join = |chosen: fn(&Part) -> bool| {
            let texts: Vec<&str> = parts.iter().filter(|p| chosen(p)).map(|p| p.text.as_str()).collect();
            non_empty(texts.join("-"))
        };
        let finetune = join(|p| p.finetune);
        let version = join(|p| p.version && !p.basename);
        let size_label = sizes(&parts);
        // A name without any of these parts does not show where its base name ends.
        let told = size_label.is_some() || finetune.is_some() || version.is_some();
        Self {
            name: non_empty(title(name)),
            organization: organization.and_then(|text| non_empty(title(text))),
            basename: join(|p| p.basename).filter(|_| told),
            finetune,
            version,
            size_label,
        }
    }

    /// Returns the parts, with those that are absent taken from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            name: self.name.or(other.name),
            organization: self.organization.or(other.organization),
            basename: self.basename.or(other.basename),
            finetune: self.finetune.or(other.finetune),
            version: self.version.or(other.version),
            size_label: self.size_label.or(other.size_label),
        }
    }
}

fn classify(at: usize, text: &str, parameters: u64) -> Part {
    let lower = text.to_ascii_lowercase();
    let mut part = Part { text: text.to_owned(), ..Part::default() };
    if is_version(&lower) {
        part.version = true;
    } else if is_encoding(&lower) {
        part.encoding = true;
        part.text = text.to_uppercase();
    } else if at > 0 && is_size(&lower) {
        part.text = normal_size(text);
        // A number far from the model's size is more likely a context length, which is written in lower case.
        if far_from(&part.text, parameters) {
            part.finetune = true;
            let suffix = part.text.pop();
            part.text.extend(suffix.map(|c| c.to_ascii_lowercase()));
        } else {
            part.size = true;
        }
    } else if at > 0 && ["chat", "instruct", "vision", "lora"].contains(&lower.as_str()) {
        part.finetune = true;
    }
    part
}

/// Drops word sizes ("small") if the name has a number ("135M") as well.
fn prefer_numeric_sizes(parts: &mut [Part]) {
    if parts.iter().any(|p| p.size && p.text.contains(|c: char| c.is_ascii_digit())) {
        for part in parts.iter_mut().filter(|p| p.text.chars().all(char::is_alphabetic)) {
            part.size = false;
        }
    }
}

/// Marks the leading undecided parts and versions as the base name, except trailing versions; other undecided parts
/// become the finetune.
fn find_basename(parts: &mut [Part]) {
    let mut at_start = true;
    for part in parts.iter_mut() {
        let undecided = part.undecided();
        at_start &= (undecided && part.text.starts_with(char::is_alphabetic)) || part.version;
        if at_start {
            part.basename = true;
        } else if undecided {
            part.finetune = true;
        }
    }
    for part in parts.iter_mut().rev() {
        if !(part.basename && part.version) {
            break;
        }
        part.basename = false;
    }
}

fn sizes(parts: &[Part]) -> Option<String> {
    let mut sizes: Vec<&str> = Vec::new();
    for part in parts.iter().filter(|p| p.size) {
        if !sizes.contains(&part.text.as_str()) {
            sizes.push(&part.text);
        }
    }
    non_empty(sizes.join("-"))
}

/// Returns true for a version in lower case: `2`, `v0.3`, `iter2`.
fn is_version(text: &str) -> bool {
    let number = text.strip_prefix("iter").or_else(|| text.strip_prefix('v')).unwrap_or(text);
    number.split('.').all(is_digits)
}

/// Returns true for an encoding in lower case: `q4_k_m`, `iq2_x_s`, `bf16`.
fn is_encoding(text: &str) -> bool {
    let float = text.strip_prefix('b').unwrap_or(text).strip_prefix('f');
    if let Some(bits) = float
        && ["16", "32", "p16", "p32"].contains(&bits)
    {
        return true;
    }
    let Some(rest) = text.strip_prefix('i').unwrap_or(text).strip_prefix('q') else { return false };
    let mut rest = rest.chars();
    if !rest.next().is_some_and(|c| c.is_ascii_digit()) {
        return false;
    }
    while let Some(separator) = rest.next() {
        if separator != '_' || !rest.next().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return false;
        }
    }
    true
}

/// Returns true for a size in lower case: `8b`, `1.5b`, `8x7b`, `a3b`, `7b1`, `small`.
fn is_size(text: &str) -> bool {
    if ["small", "mini", "medium", "large", "xl", "xxl"].contains(&text) {
        return true;
    }
    let number = text.strip_prefix('a').unwrap_or_else(|| match text.split_once('x') {
        Some((experts, rest)) if is_digits(experts) => rest,
        _ => text,
    });
    // The suffix may be followed by one digit, as in `7b1`.
    let number = number.strip_suffix(|c: char| c.is_ascii_digit()).unwrap_or(number);
    let Some(number) = number.strip_suffix(['k', 'm', 'b', 't']) else { return false };
    match number.split_once(['.', '_']) {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(number),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the size `text` in normal form: `1_5b` becomes `1.5B`, `7b1` becomes `7.1B`, and words stay.
fn normal_size(text: &str) -> String {
    let mut size = text.replace('_', ".");
    if let Some(fraction) = size.pop() {
        if fraction.is_ascii_digit()
            && let Some(suffix) = size.pop()
        {
            size.extend(['.', fraction, suffix]);
        } else {
            size.push(fraction);
        }
    }
    if size.contains(|c: char| c.is_ascii_digit())
        && let Some(suffix) = size.pop()
    {
        size.push(suffix.to_ascii_uppercase());
    }
    size
}

/// Returns true if a size label such as `8B` differs from `parameters` by more than seven eighths of these.
///
/// Labels of experts (`8x7B`, `A3B`) and words never count as far.
fn far_from(label: &str, parameters: u64) -> bool {
    let mut label = label.chars();
    let scale = match label.next_back() {
        Some('K') => 1e3,
        Some('M') => 1e6,
        Some('B') => 1e9,
        Some('T') => 1e12,
        _ => return false,
    };
    let Ok(number) = label.as_str().parse::<f64>() else { return false };
    (number * scale - parameters as f64).abs() > (parameters as f64 * 0.875).floor()
}

/// Returns the name in title case: `tiny-llama` becomes `Tiny Llama`. Words with capitals, numbers and versions stay.
fn title(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| c == '-' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let lower = word.contains(char::is_lowercase) && !word.contains(char::is_uppercase);
            let version = word.starts_with('v') && is_version(word);
            if lower && !version && !word.starts_with(|c: char| c.is_ascii_digit()) {
                capitalized(word)
            } else {
                word.to_owned()
            }
        })
        .collect();
    words.join(" ")
}

/// Returns `word` with a capital after every character that is not a letter: `llama_v2b` becomes `Llama_V2B`.
fn capitalized(word: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if inside {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::Naming;

    /// Names and numbers of weights with the name, organization, base name, finetune, version and size that llama.cpp's
    /// converter reads from them; an empty string stands for none.
    #[rustfmt::skip]
    const CONVERTER: &[(&str, u64, [&str; 6])] = &[
        ("meta-llama/Llama-2-7b-hf", 6738415616, ["Llama 2 7b Hf", "Meta Llama", "Llama-2", "hf", "", "7B"]),
        ("Meta-Llama-3.1-8B-Instruct", 8030261248, ["Meta Llama 3.1 8B Instruct", "", "Meta-Llama-3.1", "Instruct", "", "8B"]),
        ("Mistral-7B-Instruct-v0.2", 7241732096, ["Mistral 7B Instruct v0.2", "", "Mistral", "Instruct", "v0.2", "7B"]),
        ("mistralai/Mixtral-8x7B-v0.1", 46702792704, ["Mixtral 8x7B v0.1", "Mistralai", "Mixtral", "", "v0.1", "8x7B"]),
        ("gpt2", 124439808, ["Gpt2", "", "", "", "", ""]),
        ("openai-community/gpt2-medium", 354823168, ["Gpt2 Medium", "Openai Community", "gpt2", "", "", "medium"]),
        ("gpt2-xl", 1557611200, ["Gpt2 Xl", "", "gpt2", "", "", "xl"]),
        ("tiny-llama", 2098432, ["Tiny Llama", "", "", "", "", ""]),
        ("llama-5m", 5246208, ["Llama 5m", "", "llama", "", "", "5M"]),
        ("gpt2-4m", 4282368, ["Gpt2 4m", "", "gpt2", "", "", "4M"]),
        ("TinyLlama-1.1B-Chat-v1.0", 1100048384, ["TinyLlama 1.1B Chat v1.0", "", "TinyLlama", "Chat", "v1.0", "1.1B"]),
        ("Llama-3-8B-Instruct-262k", 8030261248, ["Llama 3 8B Instruct 262k", "", "Llama-3", "Instruct-262k", "", "8B"]),
        ("bloom-7b1", 7069016064, ["Bloom 7b1", "", "bloom", "", "", "7.1B"]),
        ("Qwen2-57B-A14B-Instruct", 57409011712, ["Qwen2 57B A14B Instruct", "", "Qwen2", "Instruct", "", "57B-A14B"]),
        ("SmolLM2-135M-Instruct", 134515008, ["SmolLM2 135M Instruct", "", "SmolLM2", "Instruct", "", "135M"]),
        ("some_small-model_v2b-1_5b-chat", 1500000000, ["Some_Small Model_V2B 1_5b Chat", "", "some_small-model_v2b", "chat", "", "1.5B"]),
        ("Llama-Small-8B", 8000000000, ["Llama Small 8B", "", "Llama-Small", "", "", "8B"]),
        ("Phi-3-mini-4k-instruct", 3821079552, ["Phi 3 Mini 4k Instruct", "", "Phi-3", "4k-instruct", "", "mini"]),
        ("./model", 1000000000, ["Model", "", "", "", "", ""]),
        ("My Nice Model v2", 1000000000, ["My Nice Model v2", "", "", "", "", ""]),
        ("a--b-iter2-v3", 1000000000, ["A B Iter2 v3", "", "a-b", "", "iter2-v3", ""]),
        ("llama-Q4_K_M-bf16", 7000000000, ["Llama Q4_K_M Bf16", "", "", "", "", ""]),
        ("v2", 1000000000, ["v2", "", "", "", "v2", ""]),
        ("8B-llama", 8000000000, ["8B Llama", "", "", "8B-llama", "", ""]),
        ("model-7B-7B-2x3b", 7000000000, ["Model 7B 7B 2x3b", "", "model", "", "", "7B-2x3B"]),
        ("Hermes-2-Pro-Llama-3-8B", 8030261248, ["Hermes 2 Pro Llama 3 8B", "", "Hermes-2-Pro-Llama-3", "", "", "8B"]),
        ("DeepSeek-R1-Distill-Llama-8B", 8030261248, ["DeepSeek R1 Distill Llama 8B", "", "DeepSeek-R1-Distill-Llama", "", "", "8B"]),
        ("codellama/CodeLlama-7b-Instruct-hf", 6738546688, ["CodeLlama 7b Instruct Hf", "Codellama", "CodeLlama", "Instruct-hf", "", "7B"]),
        ("stable-diffusion-xl-1.0-tensorrt", 2147483647, ["Stable Diffusion Xl 1.0 Tensorrt", "", "stable-diffusion", "tensorrt", "1.0", "xl"]),
        ("Kant-1-6-iq2_xs-1T", 1000000000000, ["Kant 1 6 Iq2_Xs 1T", "", "Kant-1-6-iq2_xs", "", "", "1T"]),
        ("x-8x22B", 1000000000, ["X 8x22B", "", "x", "", "", "8x22B"]),
        ("Tiny.Llama-v1.5", 1000000, ["Tiny.Llama v1.5", "", "Tiny.Llama", "", "v1.5", ""]),
        ("llama2.c-stories15M", 15000000, ["Llama2.C stories15M", "", "", "", "", ""]),
        ("stories-110m", 1000000, ["Stories 110m", "", "stories", "110m", "", ""]),
        ("o'neill-1b", 1000000000, ["O'Neill 1b", "", "o'neill", "", "", "1B"]),
        ("big-large-3B", 3000000000, ["Big Large 3B", "", "big-large", "", "", "3B"]),
        ("b-1b5", 1500000000, ["B 1b5", "", "b", "", "", "1.5B"]),
        ("m-7b-0.5", 7000000000, ["M 7b 0.5", "", "m", "", "0.5", "7B"]),
        ("10-4-x", 5, ["10 4 X", "", "", "", "", ""]),
    ];

    #[test]
    fn names_are_read_as_the_converter_reads_them() {
        for (id, parameters, expected) in CONVERTER {
            let naming = Naming::of(id, *parameters);
            let parts = [
                naming.name,
                naming.organization,
                naming.basename,
                naming.finetune,
                naming.version,
                naming.size_label,
            ];
            assert_eq!(parts.map(Option::unwrap_or_default), *expected, "{id}");
        }
    }
}
