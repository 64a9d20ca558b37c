"""Taking one component of a signal with a component axis."""

from hyperspy.signals import Signal2D

from hyperspy_lfp.signals._base import (
    COVARIANCE,
    VARIANCE,
    axis_index,
    cheap_to_plot,
    layer_of,
)


def component_axis(signal):
    """Position of the component axis in the data, or an error if any component is missing."""
    position = axis_index(signal, "component", place=-3)
    size = signal.axes_manager._axes[position].size
    if size != len(signal.COMPONENTS):
        raise ValueError(
            f"this {type(signal).__name__} holds {size} of the components "
            f"{signal.COMPONENTS}; take the next step with all of them."
        )
    return position


def component(signal, name):
    """One component as a generic image signal ``(time | x, y)``, with its variance."""
    position = component_axis(signal)
    stored = [i for i in (VARIANCE, COVARIANCE) if signal.metadata.has_item(i)]
    if any(layer_of(signal, item) is None for item in stored):
        # HyperSpy would slice it together with the data
        signal = signal._deepcopy_with_new_data(signal.data)
    navigation = list(signal.axes_manager.navigation_axes)
    index = [slice(None)] * len(navigation)
    axis = signal.axes_manager._axes[position]
    index[navigation.index(axis)] = signal.COMPONENTS.index(name)
    result = signal.inav[tuple(index)]
    if result.metadata.has_item(COVARIANCE):
        del result.metadata.Signal.Noise_properties.covariance_with_exy
    result.metadata.General.title = f"{name}: {signal.metadata.General.title}"
    result.metadata.Signal.signal_type = ""
    if name == "rotation":
        result.metadata.set_item("Signal.quantity", "rotation (rad)")
    result._assign_subclass()
    assert isinstance(result, Signal2D)
    return cheap_to_plot(result)
