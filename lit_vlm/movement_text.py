"""What to say of parts that moved and should not have, or should have and did not."""

from collections.abc import Sequence

from lit_vlm.movement import Findings

_SHOWN = 3


def failure_text(findings: Findings, when: str) -> str:
    """Return one message about all that failed, with likely causes; empty if nothing did.

    Args:
        findings: what was found.
        when: after what, e.g. ``5 optimizer steps``.
    """
    if not findings.failed:
        return ""
    listed = "\n".join(f"  {line}" for line in _failures(findings))
    return (
        f"TrainableReport: what is frozen must stand still, and each part that trains must move, "
        f"got otherwise after {when}:\n{listed}\n"
        f"If this is meant, set on_failure: warn, or check_after: 0 to look no more."
    )


def warning_text(findings: Findings, when: str) -> str:
    """Return one message about what is odd but no failure; empty if there is nothing."""
    lines = [
        f"{part}: all gradients were 0. Did no batch have what it reads, such as images?"
        for part in findings.zero_gradients
    ]
    lines += [
        f"{part}: no gradient reached {_named(names, 'parameter')}. Freeze what is not used: it "
        f"costs memory, and DDP refuses it."
        for part, names in findings.idle.items()
    ]
    lines += [
        f"{part}: {_named(names, 'parameter')} in 16 bits did not move: the steps are smaller than "
        f"such numbers can show. Train it in 32 bits (precision: bf16-mixed)."
        for part, names in findings.too_coarse.items()
    ]
    if not lines:
        return ""
    listed = "\n".join(f"  {line}" for line in lines)
    return f"TrainableReport: after {when} there is something to look at:\n{listed}"


def _failures(findings: Findings) -> list[str]:
    lines = [
        f"{part} is frozen, but {_named(names, 'tensor')} changed. Statistics change in training "
        f"mode (Freeze and StagedFreezing prevent it), weights if an optimizer lets them decay "
        f"without a gradient, or if something writes into them, as moving averages do: a module "
        f"that is one says so by moves_without_gradient = True."
        for part, names in findings.moved_though_frozen.items()
    ]
    lines += [
        f"{part} trains, but no gradient reached it ({_named(names, 'parameter')}). Does the loss "
        f"depend on what it returns? Is it detached, run without gradients, or not called? Freeze "
        f"it if it should not train."
        for part, names in findings.without_gradient.items()
    ]
    for part, names in findings.not_moved.items():
        lines.append(
            f"{part} trains and had gradients, but did not move ({_named(names, 'parameter')}). "
            f"{_cause(findings, part)}"
        )
    return lines


def _cause(findings: Findings, part: str) -> str:
    if part in findings.in_no_optimizer:
        return "No optimizer has its parameters: give them to one, or freeze it."
    if part in findings.rate_was_zero:
        return "Its learning rate was 0: look at the warm-up, the schedule and the multipliers."
    return (
        "The steps are too small to be seen: is the learning rate tiny, or are the weights in 16 "
        "bits (precision: bf16-mixed keeps them in 32)?"
    )


def _named(names: Sequence[str], kind: str) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{_count(len(names), kind)}: {shown}{more}"


def _count(number: int, kind: str) -> str:
    return f"{number:,} {kind}" if number == 1 else f"{number:,} {kind}s"
