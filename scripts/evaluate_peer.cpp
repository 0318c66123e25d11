// llama.cpp's perplexity tool on made-up logits: its own code, with a model that reads them from a file.
//
// Compiled and run by refresh_evaluate.py. Usage: evaluate_peer (save|compare) LOGITS_FILE MODEL.f32 CONTEXT VOCABULARY
// TOKENS.i32, where MODEL.f32 holds the rows of the scored positions, chunk after chunk. "save" scores the model and
// writes LOGITS_FILE, "compare" prints the statistics of the model against it.

#include "tools/perplexity/perplexity.cpp"

#include <cstdarg>

static std::vector<float> rows;
static std::vector<llama_token> text;
static int context_size, vocabulary, chunk = -1;

template <class T> static std::vector<T> load(const char * path) {
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    std::vector<T> data(size_t(in.tellg()) / sizeof(T));
    in.seekg(0).read((char *) data.data(), data.size() * sizeof(T));
    return data;
}

// The model: one chunk per call, as the batch is as long as the context.
int32_t llama_process(llama_context *, llama_process_type, llama_batch_ext *) { ++chunk; return 0; }
float * llama_get_logits_ith(llama_context *, int32_t) {
    return rows.data() + size_t(chunk) * (context_size - 1 - context_size / 2) * vocabulary;
}
float * llama_get_logits(llama_context *) { return nullptr; }
const llama_model * llama_get_model(const llama_context *) { return nullptr; }
const llama_vocab * llama_model_get_vocab(const llama_model *) { return nullptr; }
llama_memory_t llama_get_memory(const llama_context *) { return nullptr; }
void llama_memory_clear(llama_memory_t, bool) {}
void llama_synchronize(llama_context *) {}
uint32_t llama_n_ctx(const llama_context *) { return context_size; }
uint32_t llama_n_seq_max(const llama_context *) { return 1; }
int32_t llama_vocab_n_tokens(const llama_vocab *) { return vocabulary; }
bool llama_vocab_get_add_bos(const llama_vocab *) { return true; }
bool llama_vocab_get_add_eos(const llama_vocab *) { return false; }
llama_token llama_vocab_bos(const llama_vocab *) { return 1; }

// The helpers that the tool takes from the library.
size_t llama_max_devices() { return 1; }
void llama_batch_ext_free(llama_batch_ext *) {}
common_batch::common_batch(llama_context *) {}
void common_batch::clear() { tokens.clear(); }
int32_t common_batch::add(llama_token, llama_pos, llama_seq_id, bool) { return 0; }
llama_batch_ext * common_batch::get_sub_batch(int32_t, int32_t) { return nullptr; }
std::vector<llama_token> common_tokenize(const llama_context *, const std::string &, bool, bool) { return text; }
common_log * common_log_main() { return nullptr; }
int common_log_get_verbosity_thold() { return 1000; }
void common_log_add(common_log *, ggml_log_level, const char * format, ...) {
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
}

int main(int, char ** arguments) {
    const bool compare = strcmp(arguments[1], "compare") == 0;
    common_params params;
    params.logits_file = arguments[2];
    rows = load<float>(arguments[3]);
    context_size = params.n_ctx = params.n_batch = atoi(arguments[4]);
    vocabulary = atoi(arguments[5]);
    text = load<llama_token>(arguments[6]);
    if (compare) {
        kl_divergence(nullptr, params);
    } else {
        const auto result = perplexity(nullptr, params, context_size);
        (void) result;
    }
    return 0;
}
