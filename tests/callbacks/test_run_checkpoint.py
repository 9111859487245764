from lit_vlm.callbacks import BestCheckpoint, LastCheckpoint


def test_a_changed_option_keeps_the_state_of_the_resumed_run() -> None:
    assert LastCheckpoint(3).state_key == LastCheckpoint(500).state_key
    assert BestCheckpoint("a", "min").state_key == BestCheckpoint("a", "max").state_key


def test_two_figures_have_states_of_their_own() -> None:
    assert BestCheckpoint("a").state_key != BestCheckpoint("b").state_key
