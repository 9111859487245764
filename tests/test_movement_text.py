from lit_vlm.movement import Findings
from lit_vlm.movement_text import failure_text, warning_text


def test_says_nothing_of_nothing() -> None:
    assert failure_text(Findings(), "5 optimizer steps") == ""
    assert warning_text(Findings(), "5 optimizer steps") == ""


def test_names_the_first_few_and_counts_the_rest() -> None:
    names = [f"encoder.blocks.{i}.norm.running_mean" for i in range(5)]
    text = failure_text(Findings(moved_though_frozen={"encoder": names}), "5 optimizer steps")
    shown = ", ".join(names[:3])
    assert f"encoder is frozen, but 5 tensors: {shown} and 2 more changed." in text
    assert "got otherwise after 5 optimizer steps:" in text
    assert "set on_failure: warn, or check_after: 0" in text


def test_tells_all_failures_at_once_each_with_a_cause() -> None:
    found = Findings(
        without_gradient={"fusion": ["fusion.w"]},
        not_moved={"encoder": ["encoder.w"], "connector": ["connector.w"], "head": ["head.w"]},
        rate_was_zero={"connector"},
        in_no_optimizer={"encoder"},
    )
    _, fusion, encoder, connector, head, _ = failure_text(found, "2 steps").split("\n")
    assert "no gradient reached it (1 parameter: fusion.w)" in fusion
    assert "No optimizer has its parameters" in encoder
    assert "Its learning rate was 0" in connector
    assert "too small to be seen" in head


def test_warns_of_single_parameters_and_of_gradients_of_zero() -> None:
    found = Findings(
        idle={"head": ["head.spare"]},
        zero_gradients={"encoder": ["encoder.w"]},
        too_coarse={"connector": ["connector.a", "connector.b"]},
    )
    first, encoder, head, connector = warning_text(found, "5 steps of stage align").split("\n")
    assert first == "TrainableReport: after 5 steps of stage align there is something to look at:"
    assert "encoder: all gradients were 0" in encoder
    assert "head: no gradient reached 1 parameter: head.spare." in head
    assert "connector: 2 parameters: connector.a, connector.b in 16 bits did not move" in connector
