/* SPDX-License-Identifier: MIT */
/* Questions about patterns that need no tree. */
#include "wire/topic_private.h"

/* After a # that has matched too little, it takes one word more and all that follows starts again;
 * an earlier # need not be tried again, since the later one can take all that the earlier one
 * could. */
bool topic_matches(struct span pattern, struct span key)
{
    struct topic_words left = topic_words(pattern), right = topic_words(key), left_retry = {0}, right_retry = {0};
    bool retry = false;
    struct span a, b;

    for (;;) {
        bool has_a = topic_word(&left, &a);

        if (has_a && span_is(a, "#")) {
            retry = true;
            left_retry = left;
            right_retry = right;
            continue;
        }
        if (topic_word(&right, &b)) {
            if (has_a && (span_is(a, "*") || span_equal(a, b)))
                continue;
        } else if (!has_a) {
            return true;
        }
        if (!retry || !topic_word(&right_retry, &b))
            return false;
        left = left_retry;
        right = right_retry;
    }
}

static size_t topic_split(struct span text, struct span *split)
{
    struct topic_words words = topic_words(text);
    size_t count = 0;

    while (count < TOPIC_WORDS && topic_word(&words, &split[count]))
        count++;
    return count;
}

bool topic_overlap(struct span a, struct span b)
{
    struct span left[TOPIC_WORDS], right[TOPIC_WORDS];
    size_t m = topic_split(a, left), n = topic_split(b, right);
    /* rows[i & 1][j]: does some key match both what is left of a from i on and of b from j on? */
    bool rows[2][TOPIC_WORDS + 1];

    for (size_t i = m + 1; i-- > 0;) {
        bool *row = rows[i & 1];
        const bool *below = rows[(i + 1) & 1];

        for (size_t j = n + 1; j-- > 0;) {
            if (i == m && j == n)
                row[j] = true;
            else if (i < m && span_is(left[i], "#"))
                row[j] = below[j] || (j < n && row[j + 1]);
            else if (j < n && span_is(right[j], "#"))
                row[j] = row[j + 1] || (i < m && below[j]);
            else
                row[j] = i < m && j < n && below[j + 1] &&
                         (span_is(left[i], "*") || span_is(right[j], "*") || span_equal(left[i], right[j]));
        }
    }
    return rows[0][0];
}
