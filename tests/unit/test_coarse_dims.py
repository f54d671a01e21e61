"""How wide the prefix of a vector is, by which candidates are found."""

import pytest

from embedder.embedder import coarse_dim


@pytest.mark.parametrize(
    ("dim", "prefix"), [(64, 64), (256, 256), (384, 256), (768, 384), (1024, 512), (1536, 512), (3072, 768)]
)
def test_an_untrained_prefix_is_half_of_the_vector_and_a_quarter_of_a_very_wide_one(dim, prefix):
    assert coarse_dim(dim) == prefix


@pytest.mark.parametrize(
    ("trained", "prefix"),
    [
        ((768, 512, 256, 128), 256),
        ((1024, 768, 512, 256, 128), 512),
        ((1024, 768), 512),
        ((4096, 2048, 1024, 512, 256), 1024),
    ],
)
def test_a_trained_prefix_is_the_widest_up_to_half_or_a_third_of_the_vector(trained, prefix):
    assert coarse_dim(trained[0], trained) == prefix
