from pathlib import Path

from matplotlib.image import imread

from lit_vlm.callbacks.curve_plot import plot_curves, read_curves

METRICS = """epoch,lr/encoder,step,train/loss,val/accuracy,val/loss
0,0.1,0,3.5,,
0,0.2,10,2.5,,
0,,10,,0.5,2.0
1,0.1,20,1.5,,
"""


def test_reads_each_column_with_its_own_steps(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    curves = read_curves(tmp_path / "metrics.csv")
    assert curves == {
        "lr/encoder": ([0, 10, 20], [0.1, 0.2, 0.1]),
        "train/loss": ([0, 10, 20], [3.5, 2.5, 1.5]),
        "val/accuracy": ([10], [0.5]),
        "val/loss": ([10], [2.0]),
    }


def test_draws_a_picture_with_three_panels(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    picture = imread(tmp_path / "curves.png")
    height, width, _ = picture.shape
    assert width > 2 * height
    for panel in range(3):  # something is drawn in each third
        part = picture[:, panel * width // 3 : (panel + 1) * width // 3]
        assert part[..., :3].min() < 0.5


def test_draws_a_run_that_logged_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()
