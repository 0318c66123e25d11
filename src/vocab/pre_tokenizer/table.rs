//! The pre-tokenizers of llama.cpp: definitions of published tokenizers, and all names.
//!
//! Expressions are spelled as in the files of the models; llama.cpp adapts its own to its engine.

use std::borrow::Cow::Borrowed;

use super::{Definition, Step};
use Step::{ByteLevel, Digits, Punctuation, Split};

/// The expression of GPT-2, by which `ByteLevel` cuts.
pub(super) const GPT2_WORDS: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The expression of Llama 3 and cl100k.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of Jais 2: Llama 3 with runs of spaces cut at powers of two.
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";

/// The expression of Qwen 1.5 to 3: Llama 3 with each digit by itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of Qwen 3.5: Qwen 2 with marks in words.
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of Mistral Nemo.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of GPT-4o and o200k.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Digits in groups of three, counted from the right.
const TINY_AYA_DIGITS: &str = r"\d{1,3}(?=(?:\d{3})*\b)";

/// The expression of ufakzeka: Qwen 2 without the English endings.
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Lines and runs of line ends.
const LINES: &str = r"[^\n]+|[\n]+";

/// The first expression of Youtu: scripts without spaces and their punctuation.
const YOUTU_SCRIPTS: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";

/// The second expression of Youtu, after the scripts were cut out: GPT-4o with each digit by itself.
const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of Kimi K2: GPT-4o with Chinese kept apart and no slash after punctuation.
const KIMI_K2: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of BLOOM: runs without spaces and without ends of clauses.
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";

/// The expression of Ling.
const BAILINGMOE: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// The expression of Seed-Coder.
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expression of EXAONE MoE.
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";

/// The expression of MiniCPM 5, after numbers were cut out.
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Numbers in groups of three, counted from the left.
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";

/// Chinese and Japanese characters.
const DEEPSEEK_V3_CJK: &str = r"[一-龥぀-ゟ゠-ヿ]+";

/// Numbers in groups of three, counted from the right.
const THREE_DIGITS_FROM_RIGHT: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))";

/// The expression of Trinity for scripts of East and South-East Asia.
const AFMOE_SCRIPTS: &str = r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";

/// The expression of DeepSeek V3, after numbers, Chinese and Japanese were cut out.
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The expression of Spark 2.5, after numbers, Chinese and Japanese were cut out.
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;

/// Words of scripts with upper and lower case.
const DEEPSEEK_LLM_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

/// Punctuation, narrow and wide.
const DEEPSEEK_LLM_MARKS: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";

/// Chinese, Korean and scripts in between.
const DEEPSEEK_CJK: &str = r"[一-龥ࠀ-一가-퟿]+";

/// The step that writes bytes as letters, after other steps cut the text.
const BYTES: Step = ByteLevel { use_regex: false };
/// The step that cuts the text by GPT-2's expression and writes bytes as letters.
const GPT2: Step = ByteLevel { use_regex: true };
const EACH_DIGIT: Step = Digits { individual: true };
/// Runs of numbers.
const NUMBERS: &str = r"\p{N}+";

/// Definitions by name.
///
/// gpt-2, smollm, falcon, llama-bpe, qwen2, bloom, spark2_5 and the deepseek ones are whole definitions as published.
/// The others have the expressions that llama.cpp quotes from the model's file, or runs in this order, followed by plain
/// byte letters as in every file of that kind seen. Should one be written otherwise, it is found if it cuts alike, never
/// mistaken for another.
pub(in crate::vocab) static DEFINITIONS: &[Definition] = &[
    Definition {
        name: "gpt-2",
        also: &[
            "a.x-4.0",
            "exaone4",
            "gigachat",
            "granite-docling",
            "jais",
            "jina-de",
            "jina-es",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "phi-2",
            "roberta-bpe",
            "trillion",
        ],
        steps: &[GPT2],
        ignore_merges: false,
    },
    Definition {
        name: "smollm",
        also: &["codeshell", "command-r", "exaone", "mellum2", "minerva-7b", "refact", "starcoder"],
        steps: &[EACH_DIGIT, GPT2],
        ignore_merges: false,
    },
    Definition {
        name: "falcon",
        also: &[],
        steps: &[
            Punctuation { runs: true },
            GPT2,
            Digits { individual: false },
            Split(Borrowed(r"[0-9][0-9][0-9]")),
        ],
        ignore_merges: false,
    },
    Definition {
        name: "llama-bpe",
        also: &[
            "falcon-h1",
            "falcon3",
            "glm4",
            "glm5",
            "jina-v5-nano",
            "lfm2",
            "llama-v3",
            "llama3",
            "midm-2.0",
            "pixtral",
        ],
        steps: &[Split(Borrowed(LLAMA3)), BYTES],
        ignore_merges: true,
    },
    Definition {
        name: "dbrx",
        also: &["chatglm-bpe", "smaug-bpe"],
        steps: &[Split(Borrowed(LLAMA3)), BYTES],
        ignore_merges: false,
    },
    Definition { name: "jais-2", also: &[], steps: &[Split(Borrowed(JAIS2)), BYTES], ignore_merges: false },
    Definition {
        name: "qwen2",
        also: &[
            "deepseek-r1-qwen",
            "f2llmv2",
            "grok-2",
            "hunyuan",
            "kormo",
            "megrez",
            "solar-open",
            "stablelm2",
        ],
        steps: &[Split(Borrowed(QWEN2)), BYTES],
        ignore_merges: false,
    },
    Definition { name: "qwen35", also: &[], steps: &[Split(Borrowed(QWEN35)), BYTES], ignore_merges: false },
    Definition { name: "tekken", also: &[], steps: &[Split(Borrowed(TEKKEN)), BYTES], ignore_merges: true },
    Definition {
        name: "gpt-4o",
        also: &["kanana2", "llama4", "minimax-m2", "talkie"],
        steps: &[Split(Borrowed(GPT4O)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "tiny_aya",
        also: &["cohere2moe"],
        steps: &[Split(Borrowed(TINY_AYA_DIGITS)), Split(Borrowed(GPT4O)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "bailingmoe",
        also: &["bailingmoe2", "llada-moe"],
        steps: &[Split(Borrowed(BAILINGMOE)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "seed-coder",
        also: &[],
        steps: &[Split(Borrowed(SEED_CODER)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "exaone-moe",
        also: &[],
        steps: &[Split(Borrowed(EXAONE_MOE)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "minicpm5",
        also: &[],
        steps: &[Split(Borrowed(UP_TO_THREE_DIGITS)), Split(Borrowed(MINICPM5)), BYTES],
        ignore_merges: true,
    },
    Definition {
        name: "deepseek-v3",
        also: &["hunyuan-dense", "hy_v4", "joyai-llm"],
        steps: &[
            Split(Borrowed(UP_TO_THREE_DIGITS)),
            Split(Borrowed(DEEPSEEK_V3_CJK)),
            Split(Borrowed(DEEPSEEK_V3)),
            BYTES,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "spark2_5",
        also: &[],
        steps: &[
            Split(Borrowed(UP_TO_THREE_DIGITS)),
            Split(Borrowed(DEEPSEEK_V3_CJK)),
            Split(Borrowed(SPARK)),
            EACH_DIGIT,
            BYTES,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "deepseek-llm",
        also: &[],
        steps: &[
            Split(Borrowed(r"[\r\n]")),
            Split(Borrowed(DEEPSEEK_LLM_LETTERS)),
            Split(Borrowed(DEEPSEEK_LLM_MARKS)),
            Split(Borrowed(r"\s+$")),
            Split(Borrowed(DEEPSEEK_CJK)),
            EACH_DIGIT,
            BYTES,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "deepseek-coder",
        also: &[],
        steps: &[
            Split(Borrowed(r"[\r\n]")),
            Split(Borrowed(r"\s?\p{L}+")),
            Split(Borrowed(r"\s?\p{P}+")),
            Split(Borrowed(DEEPSEEK_CJK)),
            EACH_DIGIT,
            BYTES,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "bloom",
        also: &["gpt3-finnish", "poro-chat"],
        steps: &[Split(Borrowed(BLOOM)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "viking",
        also: &[],
        steps: &[Split(Borrowed(BLOOM)), EACH_DIGIT, BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "chameleon",
        also: &[],
        steps: &[
            Split(Borrowed("<sentinel:[0-9]+>")),
            Split(Borrowed("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z")),
            Split(Borrowed(r"([\t\n]|    |  )")),
            EACH_DIGIT,
            Punctuation { runs: false },
            GPT2,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "superbpe",
        also: &[],
        steps: &[Split(Borrowed(NUMBERS)), Split(Borrowed(r"(?=(\d{3})+(?!\d))")), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "youtu",
        also: &[],
        steps: &[Split(Borrowed(YOUTU_SCRIPTS)), Split(Borrowed(YOUTU)), BYTES],
        ignore_merges: true,
    },
    Definition {
        name: "kimi-k2",
        also: &[],
        steps: &[Split(Borrowed(KIMI_K2)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "afmoe",
        also: &[],
        steps: &[
            Split(Borrowed(THREE_DIGITS_FROM_RIGHT)),
            Split(Borrowed(AFMOE_SCRIPTS)),
            Split(Borrowed(DEEPSEEK_V3)),
            BYTES,
        ],
        ignore_merges: false,
    },
    Definition {
        name: "laguna",
        also: &[],
        steps: &[Split(Borrowed(LINES)), Split(Borrowed(QWEN2)), BYTES],
        ignore_merges: false,
    },
    Definition {
        name: "ufakzeka",
        also: &[],
        steps: &[Split(Borrowed(UFAKZEKA)), BYTES],
        ignore_merges: false,
    },
    // The definition is llama.cpp's for a file without `tokenizer.ggml.pre`.
    Definition {
        name: "default",
        also: &[],
        steps: &[
            Split(Borrowed(r"[\p{P}$+<=>^~|]+")),
            Split(Borrowed(GPT2_WORDS)),
            Split(Borrowed(NUMBERS)),
            Split(Borrowed(r"[0-9][0-9][0-9]")),
            BYTES,
        ],
        ignore_merges: false,
    },
];

/// Definitions for files that name them; another one with equal steps is preferred otherwise.
pub(in crate::vocab) static BY_NAME_ONLY: &[Definition] = &[Definition {
    name: "granite-embed-multi-97m",
    also: &[],
    steps: &[Split(Borrowed(GPT4O)), BYTES],
    ignore_merges: true,
}];

/// Every name that llama.cpp accepts.
pub(in crate::vocab) static NAMES: &[&str] = &[
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "default",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "glm5",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "granite-embed-multi-97m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v1-en",
    "jina-v2-code",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "laguna",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "mellum2",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "roberta-bpe",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "ufakzeka",
    "viking",
    "whitespace",
    "youtu",
];
