/* Where a subject's phrase stands in the prompt, in tokens: what the layout's attention maps and the phrase encoder
 * need (facts: phrase matching). Words are what white space separates; a prompt word matches a phrase word when it is
 * equal to it after losing one trailing . ! ? , or :, or when it contains "-" and the phrase word ("bull-dog" for
 * "dog"). */
#ifndef MSD_DATA_PHRASE_H
#define MSD_DATA_PHRASE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "data/tokenizer.h"

typedef struct phrase_match {
    bool        found;
    /* Positions [start, end) in the token ids, counted from 1 (behind the start token); 0, 0 when not found. They may
     * lie beyond TOKENIZER_LENGTH, where the prompt is cut off. */
    int         start, end;
    /* The matched words of the prompt without their trailing punctuation, a space between them; the phrase itself when
     * not found. This is what the phrase encoder gets. In `owner`. */
    const char *words;
} phrase_match;

/* out[i] for phrases[i]; the n-th of equal phrases takes the n-th place that matches. Every word is tokenised alone,
 * and of the matched words only the last loses its punctuation before it is. E_FORMAT as tokenizer_encode. */
err phrase_find(phrase_match *out, arena *owner, const tokenizer *t, const char *prompt, const char *const *phrases,
                int count);

/* The words alone, without a tokenizer: words[i] for phrases[i]. E_FORMAT for what is not UTF-8. */
err phrase_words(const char **words, arena *owner, const char *prompt, const char *const *phrases, int count);

/* found[i]: whether phrases[i] stands in the prompt, the n-th of equal phrases in an n-th place. E_FORMAT as above. */
err phrase_present(bool *found, const char *prompt, const char *const *phrases, int count);

#endif
