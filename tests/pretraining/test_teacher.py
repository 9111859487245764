import torch
from torch import nn
from torch.testing import assert_close

from lit_vlm.freezing import trains
from lit_vlm.pretraining.teacher import follow, teacher_of


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())


def test_follows_by_the_momentum() -> None:
    student = make()
    teacher = teacher_of(student)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    for parameter in student.parameters():
        parameter.data += 1
    student(torch.randn(8, 3))  # moves the running statistics
    follow(teacher, student, 0.9)
    for name, value in teacher.state_dict().items():
        expected = student.state_dict()[name]
        if value.is_floating_point():
            expected = 0.9 * before[name] + 0.1 * expected
        assert_close(value, expected)
    assert teacher.get_buffer("1.num_batches_tracked") == 1


def test_a_momentum_of_1_leaves_it_and_one_of_0_makes_it_the_student() -> None:
    student = make()
    teacher = teacher_of(student)
    kept = [parameter.clone() for parameter in teacher.parameters()]
    for parameter in student.parameters():
        parameter.data.normal_()
    follow(teacher, student, 1.0)
    assert all(map(torch.equal, teacher.parameters(), kept))
    follow(teacher, student, 0.0)
    assert_close(list(teacher.parameters()), list(student.parameters()))


def test_neither_trains_nor_leaves_evaluation_mode() -> None:
    root = nn.ModuleList([teacher_of(make())])
    root.train()
    assert not trains(root)
    assert not any(module.training for module in root[0].modules())
