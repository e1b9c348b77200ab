import numpy as np

from convlens.export.digits import PREPROCESSING, load_digits, split_digits


def test_the_split_holds_out_a_fifth_of_each_class_and_shares_no_digit() -> None:
    digits = load_digits()
    training, held_out = split_digits(digits)
    assert len(digits) == 1797
    assert len(held_out) == 360
    assert set(training.indices) | set(held_out.indices) == set(range(1797))
    shares = np.bincount(held_out.labels) / np.bincount(digits.labels)
    assert np.abs(shares - 0.2).max() < 0.01


def test_the_split_is_the_same_each_time() -> None:
    first, second = (split_digits(load_digits())[1] for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    assert first.indices[:3].tolist() == [21, 24, 28]


def test_digits_are_light_ink_on_a_black_ground() -> None:
    pictures = load_digits().pictures
    assert pictures.dtype == np.uint8
    assert pictures.shape[1:] == (32, 32)
    assert pictures.max() == 255
    # The upper left corner is paper in all but a few.
    assert np.mean(pictures[:, 0, 0] == 0) > 0.99


def test_the_preprocessing_fits_the_training_pictures() -> None:
    training, _ = split_digits(load_digits())
    inputs = training.examples().inputs
    assert inputs.shape == (1437, *(1, *PREPROCESSING.size))
    assert abs(inputs.mean()) < 0.05
    assert abs(inputs.std() - 1) < 0.05
