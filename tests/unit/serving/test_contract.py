import pickle

import pytest

from modelyard_serving.contract import FailureReason, ModelConfig, ReplicaConfig, failure_text, read_failure
from modelyard_serving.failure import StartFailure


@pytest.mark.parametrize("reason", FailureReason)
def test_a_failure_is_read_back_out_of_ray_s_message(reason: FailureReason) -> None:
    text = f"Traceback (most recent call last):\nStartFailure: {failure_text(reason, 'no: such model')}\n\nmore"
    assert read_failure(text) == (reason, "no: such model")


@pytest.mark.parametrize("text", ["", "RuntimeError: boom", "modelyard-reason=Nonsense: x", "modelyard-reason="])
def test_other_texts_are_no_failure_of_ours(text: str) -> None:
    assert read_failure(text) is None


def test_a_start_failure_survives_the_way_through_ray() -> None:
    failure = StartFailure(FailureReason.MODEL_INVALID, "two\nlines")
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes
    assert (again.reason, again.message, str(again)) == (failure.reason, "two lines", str(failure))


def test_the_configuration_survives_as_ray_s_user_config() -> None:
    config = ReplicaConfig(service="a/b", revision="01234567", model=ModelConfig(uri="pvc://m/x", path="/models/m/x"))
    assert ReplicaConfig.model_validate(config.as_user_config()) == config
