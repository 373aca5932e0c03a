"""The response surface of studies whose surface is known."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial
from sampled_studies import add, best_rate, on_known_surface, study_in_memory, with_duplicate

from pneumo.sweep.pages import surface_page, surrogate


@pytest.fixture(scope="module")
def surface():
    return surrogate.fitted(on_known_surface(40))


def texts(study):
    return " ".join(text for section in surface_page.sections(study) for text in section.text)


def test_a_ridge_that_grows_as_the_square_root_of_the_batch_is_recovered_within_a_factor_of_1_5(surface):
    found = surface.best_rates[..., 1] / best_rate(surface.batches)
    assert surface.is_best_known.all()
    assert np.abs(np.log(found)).max() < np.log(1.5)
    for low, middle, high in surface.exponents:
        assert 0 < low < 0.5 < high < 1
        assert middle == pytest.approx(0.5, abs=0.1)


def test_the_true_surface_is_within_two_sds_of_the_predicted_one(surface):
    off = np.log10(surface.rates / best_rate(surface.batches)[:, None])
    true = np.array([0.9 - 0.1 * off**2 - 0.05 * (loss == "bce") for loss in surface.losses])
    assert np.mean(np.abs(surface.mean - true) < 2 * surface.sd) > 0.9
    assert 0.005 < surface.noise_sd < 0.02  # .01


def test_a_study_that_minimises_has_the_same_best_rates():
    up, down = (surrogate.fitted(on_known_surface(20, sign=sign)) for sign in (1, -1))
    assert np.allclose(down.best_rates, up.best_rates)
    assert np.allclose(down.mean, -up.mean)


def test_the_interval_of_the_best_rate_holds_it_in_at_least_80_percent_of_the_cells_of_small_studies():
    held = []
    for seed in range(6):
        found = surrogate.fitted(on_known_surface(12, seed))
        true = np.clip(best_rate(found.batches), found.rates[0], found.rates[-1])
        inside = (found.best_rates[..., 0] <= true * 1.09) & (found.best_rates[..., 2] >= true / 1.09)
        held += inside[found.is_best_known].tolist()
    assert len(held) > 60
    assert np.mean(held) >= 0.8


def test_four_trials_say_that_nothing_is_known():
    study = on_known_surface(4)
    assert surrogate.fitted(study) is None
    assert texts(study) == "Not known before 8 trials that differ in rate and batch; 4 so far."


def test_noise_alone_says_that_the_best_rate_is_not_known():
    study = on_known_surface(20, noise=1.0, height=0.0)
    assert not surrogate.fitted(study).is_best_known.any()
    assert "The best rate is not known for any effective batch" in texts(study)


def test_a_loss_that_differs_from_the_other_is_known_only_near_its_trials():
    study = study_in_memory()
    for number, lr in enumerate(np.geomspace(1e-4, 1e-1, 16)):
        add(study, float(lr), [0.9 - 0.1 * np.log10(lr / 1e-2) ** 2], batch=[6, 16, 32, 64][number % 4])
    for lr, batch, value in ((1e-4, 6, 0.9), (2e-4, 6, 0.8), (1e-4, 16, 0.85)):  # falls where the other rises
        add(study, lr, [value], batch=batch, loss="bce")
    known = surrogate.fitted(study).is_known
    bce, ce = known  # in alphabetical order
    assert ce.all()
    assert bce[0, 0]
    assert not bce[-1, -1]
    assert "of the surface is not known" in texts(study)


def test_a_pruned_trial_counts_with_its_value_and_what_complete_ones_gained_after_its_epoch():
    study = study_in_memory()
    for final in (0.7, 0.8, 0.9):  # from .5: gains of .2, .3, .4
        add(study, 1e-3, [final], [0.5, final])
    add(study, 1e-2, [0.4], [0.4], TrialState.PRUNED)
    assert [point.value for point in surrogate.observations(study)] == pytest.approx([0.7, 0.8, 0.9, 0.7])


def test_a_result_that_was_taken_over_counts_once_and_a_failed_trial_not_at_all():
    numbers = [point.trial.number for point in surrogate.observations(with_duplicate())]
    assert numbers == [0, 1, 2, 3, 4, 6]


def test_the_effective_batch_is_batch_size_times_accumulation_steps(surface):
    for point in surface.points:
        assert (
            point.batch == point.trial.params["fit.batch_size"] * point.trial.params["fit.accumulation_steps"]
        )


def test_a_study_without_batch_and_rate_has_no_surface():
    study = study_in_memory()
    axis = {"loss": CategoricalDistribution(["ce", "bce"])}
    study.add_trial(create_trial(params={"loss": "ce"}, distributions=axis, value=0.5))
    assert list(surface_page.sections(study)) == []


def test_rates_that_are_choices_and_a_loss_that_is_fixed_have_a_surface_too():
    study = study_in_memory()
    axes = {
        "optimizer.lr": CategoricalDistribution([1e-4, 1e-3, 1e-2]),
        "fit.accumulation_steps": CategoricalDistribution([1, 2, 4]),
    }
    for lr in axes["optimizer.lr"].choices:
        for steps in axes["fit.accumulation_steps"].choices:
            params = {"optimizer.lr": lr, "fit.accumulation_steps": steps}
            value = 0.9 - 0.1 * abs(np.log10(lr / 1e-3))
            trial = create_trial(params=params, distributions=axes, value=value)
            trial.set_user_attr("effective_batch", 16 * steps)
            study.add_trial(trial)
    surface = surrogate.fitted(study)
    assert surface.losses == [""]
    assert (surface.batches[0], surface.batches[-1]) == (pytest.approx(16), pytest.approx(64))
    assert np.allclose(surface.best_rates[0, :, 1], 1e-3, rtol=0.3)


def test_the_reports_setting_is_compared_where_the_surface_has_it():
    said = texts(on_known_surface(40))
    assert "At the 2024 report's own setting (lr 1e-3, batch 6 x 1, ce) it predicts .9" in said
