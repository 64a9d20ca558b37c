"""The figures of diffraction spots: what they show, what they refuse, and that they look alike."""

import hyperspy.api as hs
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex

from hyperspy_lfp import data, plotting

# As in test_plotting.py: images are compared with those of the version that drew them.
_DRAWN_WITH = (3, 11)
BLACK, BLUE, VERMILION = "#000000", "#0072b2", "#d55e00"


def compare(test):
    """Compare the returned figure with its baseline image."""
    # with its text: Matplotlib cannot take it from an axis on top
    test = pytest.mark.mpl_image_compare(savefig_kwargs={"dpi": 50}, style="default", tolerance=12)(
        test
    )
    other = matplotlib.__version_info__[:2] != _DRAWN_WITH
    reason = f"the baseline images are of Matplotlib {_DRAWN_WITH[0]}.{_DRAWN_WITH[1]}"
    return pytest.mark.skipif(other, reason=reason)(test)


def profile_of(kind, **kwargs):
    series = data.diffraction_series(kind)
    options = {"material": "LiFePO4", "show_progressbar": False, **kwargs}
    return series.track_spot_profile((2, 0, 0), **options)


@pytest.fixture(scope="module")
def two_phase():
    profile = profile_of("two-phase")
    return profile, profile.fit(show_progressbar=False)


@pytest.fixture(scope="module")
def solid_solution():
    profile = profile_of("solid solution")
    return profile, profile.fit(show_progressbar=False)


@compare
def test_spot_profiles_image(two_phase):
    return plotting.spot_profiles(*two_phase)


@compare
def test_transformation_image(two_phase):
    return plotting.transformation(two_phase[1], "LiFePO4")


def heat_map(figure):
    found = [
        c
        for ax in figure.axes
        for c in ax.collections
        if isinstance(c, QuadMesh) and not hasattr(ax, "_colorbar")
    ]
    (mesh,) = found
    return mesh


def points(ax):
    """Points of an axes by their colour, (n, 2)."""
    found = {}
    for line in ax.lines:
        if line.get_marker() == "o":
            found.setdefault(to_hex(line.get_color()), []).append(line.get_xydata())
    return {colour: np.concatenate(parts) for colour, parts in found.items()}


def labels(figure):
    return {text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel())}


def test_heat_map_shows_the_counts(two_phase):
    profile, _ = two_phase
    mesh = heat_map(plotting.spot_profiles(profile))
    np.testing.assert_array_equal(mesh.get_array(), profile.data)
    time, k = profile.axes_manager["time"], profile.axes_manager["k"]
    corners = mesh.get_coordinates()
    assert corners[0, 0].tolist() == pytest.approx([k.axis[0] - k.scale / 2, -time.scale / 2])
    assert corners[-1, -1].tolist() == pytest.approx(
        [k.axis[-1] + k.scale / 2, 300 + time.scale / 2]
    )
    assert mesh.get_clim() == pytest.approx((0, profile.data.max()))


def test_positions_are_where_the_fit_says(two_phase):
    profile, track = two_phase
    figure = plotting.spot_profiles(profile, track)
    ax = heat_map(figure).axes
    found = points(ax)
    assert set(found) == {BLACK, BLUE, VERMILION}
    time, two = profile.axes_manager["time"].axis, track.n_peaks.data == 2
    first, second = track.position.data, track.position_2.data
    for colour, at, use in (
        (BLACK, first, ~two),
        (BLUE, first, two),
        (VERMILION, second, two),
    ):
        seen = found[colour][np.isfinite(found[colour]).all(axis=1)]
        np.testing.assert_allclose(seen, np.stack([at, time], axis=-1)[use])
    # error bars along k, of one standard error
    bars = next(c for c in ax.containers if to_hex(c.lines[2][0].get_color()[0]) == BLUE)
    segments = np.array(bars.lines[2][0].get_segments())
    error = track.standard_error("position").data[two]
    np.testing.assert_allclose(np.ptp(segments[..., 0], axis=1), 2 * error, rtol=1e-9)
    # and in the waterfall the same positions, at the height of their profiles
    waterfall = points(figure.axes[0])
    np.testing.assert_allclose(np.sort(waterfall[BLUE][:, 0]), np.sort(first[two]))


def test_waterfall_has_each_profile_at_its_time(two_phase):
    profile, _ = two_phase
    ax = plotting.spot_profiles(profile).axes[0]
    assert len(ax.lines) == 16
    lines = sorted(ax.lines, key=lambda line: -line.zorder)  # the earliest in front
    scales = []
    for line, values, time in zip(
        lines, profile.data, profile.axes_manager["time"].axis, strict=True
    ):
        scales.append((line.get_ydata() - time) / values)
        assert line.get_ydata().min() >= time
        assert line.get_ydata().max() <= ax.get_ylim()[1]
    np.testing.assert_allclose(scales, np.mean(scales), rtol=1e-9)


def test_long_series_show_some_profiles_and_all_rows(two_phase):
    profile, _ = two_phase
    long = hs.stack([profile] * 4, axis="time")
    figure = plotting.spot_profiles(long)
    assert len(figure.axes[0].lines) == 24
    assert heat_map(figure).get_array().shape == (64, profile.data.shape[1])


def test_spacing_is_the_reciprocal(two_phase):
    figure = plotting.spot_profiles(two_phase[0])
    assert {"(2 0 0)  k (1/nm)", "time (s)", "counts in a bin"} <= labels(figure)
    (above,) = figure.axes[0].child_axes
    figure.draw_without_rendering()
    assert above.get_xlabel() == "d (nm)"
    assert sorted(above.get_xlim()) == pytest.approx(
        sorted(1 / k for k in figure.axes[0].get_xlim())
    )


def test_no_spacing_along_other_directions():
    profile = profile_of("two-phase", direction=(0, 1), length=0.5, width=0.5)
    figure = plotting.spot_profiles(profile)
    assert not figure.axes[0].child_axes


def test_normalised_profiles_have_one_as_their_maximum(two_phase):
    figure = plotting.spot_profiles(two_phase[0], normalise=True)
    mesh = heat_map(figure)
    np.testing.assert_allclose(mesh.get_array().max(axis=1), 1)
    assert mesh.get_clim() == (0, 1)
    assert "counts / maximum of the profile" in labels(figure)


def test_options_of_the_heat_map(two_phase):
    mesh = heat_map(plotting.spot_profiles(two_phase[0], cmap="viridis", vmin=10, vmax=100))
    assert mesh.get_cmap().name == "viridis" and mesh.get_clim() == (10, 100)


def test_power_spectra_hold_no_counts():
    movie = data.lithiation_movie().inav[:3]
    series = movie.to_diffraction_series(padding=2)
    profile = series.track_spot_profile(movie.find_g_vectors(n=1)[0], width=0.4)
    assert "power in a bin" in labels(plotting.spot_profiles(profile))


def test_nan_is_blank_and_does_no_harm(two_phase):
    profile, track = two_phase
    holes = profile.deepcopy()
    holes.data[3] = np.nan
    holes.data[:, 4] = np.nan
    for normalise in (False, True):
        figure = plotting.spot_profiles(holes, track, normalise=normalise)
        np.testing.assert_array_equal(heat_map(figure).get_array().mask, np.isnan(holes.data))
    holes.data[:] = np.nan
    plotting.spot_profiles(holes, holes.fit(show_progressbar=False))


def test_time_that_runs_backwards(two_phase):
    """Rows and profiles keep their times."""
    profile, _ = two_phase
    back = profile.deepcopy()
    back.axes_manager["time"].offset, back.axes_manager["time"].scale = 300, -20
    figure = plotting.spot_profiles(back)
    assert heat_map(figure).get_coordinates()[0, 0, 1] == pytest.approx(310)
    highest = figure.axes[0].lines[0]  # drawn first, behind the others: the latest
    assert highest.get_ydata().min() >= 300 and highest.get_ydata().max() > 310


def test_one_profile(two_phase):
    profile, track = two_phase
    one = profile.inav[7]
    figure = plotting.spot_profiles(one, one.fit(peaks=2, show_progressbar=False))
    (ax,) = figure.axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), one.data)
    at = [line.get_xdata()[0] for line in ax.lines[1:]]
    expected = [track.position.data[7], track.position_2.data[7]]
    # neighbours in time are other starts of the same fit
    assert at == pytest.approx(expected, abs=track.standard_error("position").data[7])


def test_lazy_profiles(two_phase):
    profile, _ = two_phase
    lazy = profile.as_lazy()
    track = lazy.fit()
    mesh = heat_map(plotting.spot_profiles(lazy, track))
    np.testing.assert_array_equal(mesh.get_array(), profile.data)
    assert "two-phase" in plotting.transformation(track, "LiFePO4").get_suptitle()
    assert lazy._lazy and track._lazy


def test_plot_waterfall_is_the_same(two_phase):
    figure = two_phase[0].plot_waterfall(two_phase[1], normalise=True)
    assert heat_map(figure).get_clim() == (0, 1)


def test_another_track_is_refused(two_phase):
    profile, track = two_phase
    with pytest.raises(ValueError, match=r"shape \(16,\) over time, but there are 5 profiles"):
        plotting.spot_profiles(profile.inav[:5], track)


def test_several_navigation_axes_are_refused(two_phase):
    profile, _ = two_phase
    stack = hs.stack([profile, profile], new_axis_name="z")
    with pytest.raises(ValueError, match=r"navigation axes \['time', 'z'\]"):
        plotting.spot_profiles(stack)


def test_no_figure_is_left_in_pyplot(two_phase):
    profile, track = two_phase
    for figure in (plotting.spot_profiles(profile), plotting.transformation(track)):
        assert not hasattr(figure, "number")
    assert plt.get_fignums() == []


def test_transformation_shows_the_evidence(two_phase):
    track = two_phase[1]
    found = track.transformation("LiFePO4")
    figure = plotting.transformation(track, "LiFePO4")
    assert figure.get_suptitle() == "(2 0 0)  two-phase"
    positions, probability, changes, fractions = figure.axes
    np.testing.assert_array_equal(probability.lines[0].get_ydata(), found.probability)
    np.testing.assert_array_equal(changes.lines[0].get_ydata(), found.moved)
    np.testing.assert_array_equal(changes.lines[1].get_ydata(), found.exchanged)
    two = track.n_peaks.data == 2
    np.testing.assert_allclose(points(positions)[VERMILION][:, 1], track.position_2.data[two])
    seen, moles = (line.get_ydata() for line in fractions.lines[:2])
    np.testing.assert_allclose(seen, track.intensity_fraction().data[two])
    np.testing.assert_allclose(moles, track.molar_fraction("LiFePO4").data[two])


def test_transformation_of_one_peak_says_so(solid_solution):
    figure = plotting.transformation(solid_solution[1])
    assert figure.get_suptitle() == "(2 0 0)  solid solution"
    assert [text.get_text() for text in figure.axes[3].texts if text.get_text() != "d"] == [
        "never two peaks"
    ]


def test_transformation_needs_both_fits(two_phase):
    track = two_phase[0].fit(peaks=1, show_progressbar=False)
    with pytest.raises(ValueError, match="auto"):
        plotting.transformation(track)


def test_nothing_leaves_the_page(two_phase):
    profile, track = two_phase
    for figure in (plotting.spot_profiles(profile, track), plotting.transformation(track)):
        for ax in figure.axes:
            box = ax.get_position()
            assert min(box.x0, box.y0) >= 0
            assert max(box.x1, box.y1) <= 1
