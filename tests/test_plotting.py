"""The figures: what they show, what they refuse, and that they look as they did."""

import itertools

import hyperspy.api as hs
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hyperspy.signals import Signal2D
from PIL import Image

from hyperspy_lfp import plotting
from hyperspy_lfp.signals import ConcentrationMap, HRTEMMovie

NODE = "HyperspyLFP.ConcentrationMap"
REGIONS = {
    "left": hs.roi.RectangularROI(1.0, 1.5, 2.5, 3.0),
    "disc": hs.roi.CircleROI(4.0, 2.5, 0.9),
    "corner": hs.roi.PolygonROI([(3.0, 3.2), (4.8, 3.2), (3.0, 4.2)]),
}
# Every minor version of Matplotlib draws a little differently: images are compared with those of
# the version that drew them, and what they show is tested for all versions below.
_DRAWN_WITH = (3, 11)


def compare(test):
    """Compare the returned figure with its baseline image."""
    test = pytest.mark.mpl_image_compare(
        savefig_kwargs={"dpi": 50}, style="default", tolerance=12, remove_text=True
    )(test)
    other = matplotlib.__version_info__[:2] != _DRAWN_WITH
    reason = f"the baseline images are of Matplotlib {_DRAWN_WITH[0]}.{_DRAWN_WITH[1]}"
    return pytest.mark.skipif(other, reason=reason)(test)


def axes_of(shape, scale, frames, step=12.5, units="nm", time_units="s"):
    """Axes of ``(time | x, y)``; (y, x) shape."""
    time = {"name": "time", "size": frames, "scale": step, "units": time_units, "navigate": True}
    image = [
        {"name": n, "size": size, "scale": scale, "units": units, "navigate": False}
        for n, size in zip("yx", shape, strict=True)
    ]
    return ([time] if frames else []) + image


def make_map(frames=8, variance=True, **kwargs):
    """A disc that fills from the left, from a little below 0 to a little above 1."""
    scale = 0.25
    y, x = np.mgrid[:20, :24] * scale
    time = np.linspace(0, 1, max(frames, 1))[:, None, None]
    values = 1.15 * time + 0.3 * np.sin(np.pi * time) * (x / 6 - 0.5) * -2 - 0.05 + 0.02 * np.sin(x)
    values = np.where((x - 2.9) ** 2 + (y - 2.4) ** 2 < 2.3**2, values, np.nan)
    values = values if frames else values[0]
    signal = ConcentrationMap(values, axes=axes_of((20, 24), scale, frames, **kwargs))
    signal.metadata.set_item(f"{NODE}.resolution", 0.4)
    signal.metadata.set_item(f"{NODE}.material.species", "Li")
    if variance:
        noise = 0.01 + 0.002 * np.hypot(x - 2.9, y - 2.4)
        noise = Signal2D(np.broadcast_to(noise**2, values.shape).copy())
        signal.metadata.set_item("Signal.Noise_properties.variance", noise)
    return signal


def make_movie(frames=8, **kwargs):
    y, x = np.mgrid[:100, :120] * 0.05
    inside = (x - 2.9) ** 2 + (y - 2.4) ** 2 < 2.3**2
    image = 100 + 40 * inside * np.cos(2 * np.pi * 2 * x) * np.cos(2 * np.pi * 1.5 * y)
    data = np.broadcast_to(image, ((frames,) if frames else ()) + image.shape)
    return HRTEMMovie(data.copy(), axes=axes_of((100, 120), 0.05, frames, **kwargs))


@compare
def test_montage_image():
    return plotting.montage(make_map(), times=[0, 25, 50, 87.5], columns=2)


@compare
def test_evolution_image():
    return plotting.evolution(make_map().evolution(REGIONS, show_progressbar=False))


@compare
def test_summary_image():
    x = make_map()
    ev = x.evolution(REGIONS, show_progressbar=False)
    return plotting.summary(make_movie(), x, ev, REGIONS, hs.roi.RectangularROI(2, 1, 4, 3))


@compare
def test_summary_of_one_frame_image():
    x = make_map(0)
    ev = x.evolution(REGIONS, show_progressbar=False)
    return plotting.summary(make_movie(0), x, ev, REGIONS)


def titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def labels(figure):
    return {text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel())}


def test_no_figure_is_left_in_pyplot():
    x = make_map(2)
    ev = x.evolution(show_progressbar=False)
    for figure in (plotting.montage(x), plotting.evolution(ev)):
        assert not hasattr(figure, "number")
    plotting.summary(make_movie(2), x, ev)
    assert plt.get_fignums() == []


def test_montage_shows_the_maps_on_one_scale(tmp_path):
    x = make_map()
    figure = x.plot_montage(times=[0, 40, 87.5])
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert titles(figure) == ["0.0 s", "37.5 s", "87.5 s"]
    assert "Li content x" in labels(figure)
    for image, i in zip(images, (0, 3, 7), strict=True):
        assert image.get_clim() == (0, 1)
        np.testing.assert_array_equal(image.get_array().filled(np.nan), x.data[i])
        # pixel centres are where the axes say, y points down
        assert image.get_extent() == pytest.approx([-0.125, 5.875, 4.875, -0.125])
        assert image.axes.get_aspect() == 1
    assert figure.axes[-1]._colorbar.extend == "both"
    figure.savefig(tmp_path / "montage.pdf")


@pytest.mark.parametrize(
    ("low", "high", "extend"),
    [(0, 1, "both"), (-1, 1, "max"), (0, 2, "min"), (-1, 2, "neither"), (None, None, "neither")],
)
def test_montage_takes_limits(low, high, extend):
    figure = plotting.montage(make_map(), vmin=low, vmax=high, cmap="cividis")
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_cmap().name == "cividis"
    assert figure.axes[-1]._colorbar.extend == extend


def test_montage_of_lazy_maps_computes_only_what_it_shows():
    x = make_map()
    computed = []

    def watch(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    lazy = x.as_lazy()
    lazy.data = lazy.data.rechunk((1, -1, -1)).map_blocks(watch, dtype=float, meta=np.empty(()))
    figure = lazy.plot_montage(times=[0, 87.5])
    assert sorted(set(computed)) == [0, 7]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array().filled(np.nan), x.data[7])


def test_montage_of_one_map_has_no_time():
    figure = plotting.montage(make_map(0))
    assert titles(figure) == []
    assert len(figure.axes) == 2


def test_montage_without_time_calibration_counts_frames():
    assert titles(plotting.montage(make_map(3, time_units="")))[1] == "frame 1"


@pytest.mark.parametrize(
    ("step", "label"), [(18.18, "18 s"), (0.25, "0.25 s"), (0.0334, "0.033 s"), (1, "1 s")]
)
def test_times_have_the_digits_that_tell_them_apart(step, label):
    assert titles(plotting.montage(make_map(3, step=step)))[1] == label


@pytest.mark.parametrize(
    ("units", "label"), [("nm", "2 nm"), ("Å", "0.2 nm"), ("um", "2 µm"), ("", "2 pixels")]
)
def test_scale_bar_is_in_units_of_length(units, label):
    figure = plotting.montage(make_map(2, units=units))
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == [label]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": []}, "times is empty"),
        ({"times": [0, 500]}, r"times=\[500.0\] are outside .* from 0 to 87.5 s"),
        ({"times": [np.nan]}, "outside"),
        ({"columns": 0}, "columns=0"),
        ({"columns": 1.5}, "columns=1.5"),
    ],
)
def test_montage_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        plotting.montage(make_map(), **arguments)


def test_montage_of_one_map_takes_no_times():
    with pytest.raises(ValueError, match="no time axis"):
        plotting.montage(make_map(0), times=[0])


def test_several_navigation_axes_are_refused():
    data = make_map(2).data
    axes = [{"size": 3, "name": "z", "navigate": True}, *axes_of((20, 24), 0.25, 2)]
    stack = ConcentrationMap(np.stack([data] * 3), axes=axes)
    stack.metadata.set_item(f"{NODE}.resolution", 0.4)
    with pytest.raises(ValueError, match=r"navigation axes \['time', 'z'\]"):
        plotting.montage(stack)
    with pytest.raises(ValueError, match="only the regions"):
        plotting.evolution(stack.evolution(show_progressbar=False))


def test_evolution_draws_means_and_bands():
    ev = make_map().evolution(REGIONS, show_progressbar=False)
    figure = plotting.evolution(ev)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(REGIONS)
    assert labels(figure) == {"time (s)", "Li content x"}
    for line, mean in zip(ax.lines, ev.data, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(8) * 12.5)
        np.testing.assert_array_equal(line.get_ydata(), mean)
    band = ax.collections[0].get_paths()[0].get_extents()
    error = ev.standard_error.data[0]
    assert band.y0 == pytest.approx((ev.data[0] - error).min())
    assert band.y1 == pytest.approx((ev.data[0] + error).max())


def test_evolution_of_one_time_draws_points():
    figure = plotting.evolution(make_map(0).evolution(REGIONS, show_progressbar=False))
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks == list(REGIONS)


def test_evolution_after_slicing_and_without_variance():
    ev = make_map(variance=False).evolution(REGIONS, show_progressbar=False)
    legend = plotting.evolution(ev.inav[1:]).axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["region 1", "region 2"]


def test_summary_without_variance_has_no_error_map():
    x = make_map(4, variance=False)
    figure = plotting.summary(make_movie(4), x, x.evolution(show_progressbar=False))
    assert "standard error of x" not in labels(figure)


def test_summary_of_nothing_but_nan():
    x = make_map(0)
    x.data[:] = np.nan
    movie = make_movie(0)
    figure = plotting.summary(movie, x, x.evolution(show_progressbar=False), REGIONS)
    assert "pixels of the map" in labels(figure)


@pytest.mark.parametrize("shape", [(30, 400), (400, 30)])
def test_nothing_leaves_the_page(shape):
    """Also of very long frames, every axes lies on the page."""
    frames = 3
    x = ConcentrationMap(np.full((frames, *shape), 0.5), axes=axes_of(shape, 0.1, frames))
    movie = HRTEMMovie(np.ones((frames, *shape)), axes=axes_of(shape, 0.1, frames))
    x.metadata.set_item(f"{NODE}.resolution", 0.4)
    figure = plotting.summary(movie, x, x.evolution(show_progressbar=False))
    for ax in (*figure.axes, *plotting.montage(x).axes):
        box = ax.get_position()
        assert min(box.x0, box.y0) >= 0
        assert max(box.x1, box.y1) <= 1


def test_movie(tmp_path):
    """Each frame of the film is the map of its time."""
    x = make_map(4)
    file = tmp_path / "film.gif"
    plotting.movie(x, file, frames_per_second=4)
    with Image.open(file) as film:
        assert film.n_frames == 4
        assert film.info["duration"] == 250
        pictures = []
        for i in range(4):
            film.seek(i)
            pictures.append(np.asarray(film.convert("RGB")))
    assert all(np.any(a != b) for a, b in itertools.pairwise(pictures))
    # viridis: from dark violet to yellow as the disc fills
    middle = [p[p.shape[0] // 2, p.shape[1] // 3] for p in pictures]
    assert middle[0][1] < 60 and middle[-1][1] > 200
    assert list(tmp_path.iterdir()) == [file]


def test_movie_does_not_replace_a_file(tmp_path):
    file = tmp_path / "film.gif"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        make_map(2).save_movie(file)
    assert file.read_text() == "mine"
    make_map(2).save_movie(file, overwrite=True)
    assert file.read_bytes()[:3] == b"GIF"


def test_movie_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"filename=.*\.gif"):
        plotting.movie(make_map(2), tmp_path / "film.avi")
    assert not list(tmp_path.iterdir())
