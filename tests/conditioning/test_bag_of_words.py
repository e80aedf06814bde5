"""Bag-of-words conditioning: the sum of the word embeddings."""

import torch

from ddpm.captions.vocabulary import tokens
from ddpm.conditioning.kinds.bag_of_words import BagOfWords


def given(*captions):
    torch.manual_seed(0)
    return BagOfWords((1, 28, 28), 10, 8, dropout=0.1).eval()(tokens(captions)).embedding


def test_embedding_depends_on_words_but_not_their_order():
    found = given("a dark plain dress", "plain a dress dark", "a dark plain coat")
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)  # the order of a float32 sum
    assert (found[0] - found[2]).abs().max() > 0.1


def test_caption_embedding_is_sum_of_word_embeddings():
    whole, *parts = given("a dark dress", "a", "dark", "dress")
    torch.testing.assert_close(whole, sum(parts), rtol=0, atol=1e-6)
