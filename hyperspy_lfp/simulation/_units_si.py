"""From SI units to the units of the phase-field kernel: kT, nanometres, seconds."""

from typing import NamedTuple

#: Boltzmann's constant (J/K) and the elementary charge (C), exact in SI.
BOLTZMANN = 1.380649e-23
CHARGE = 1.602176634e-19
_SQUARE_NANOMETRES = 1e18  # in one square metre


class Scales(NamedTuple):
    """What converts the numbers of one particle."""

    temperature: float  # K
    site_density: float  # 1/m3
    thickness: float  # nm

    @property
    def thermal_energy(self):
        """kT in J."""
        return BOLTZMANN * self.temperature

    @property
    def thermal_voltage(self):
        """kT/e in V."""
        return self.thermal_energy / CHARGE

    def energy(self, joule):
        """An energy per site in kT."""
        return joule / self.thermal_energy

    def pressure(self, pascal):
        """An energy per volume as one per site, in kT."""
        return pascal / (self.site_density * self.thermal_energy)

    def gradient(self, joule_per_metre):
        """A gradient energy coefficient in kT nm2."""
        return self.pressure(joule_per_metre) * _SQUARE_NANOMETRES

    def diffusivity(self, square_metres_per_second):
        """In nm2/s."""
        return square_metres_per_second * _SQUARE_NANOMETRES

    def rate_constant(self, exchange_current):
        """Exchange current density (A/m2) through both faces of a plate, in 1/s."""
        return 2 * exchange_current / (CHARGE * self.site_density * self.thickness * 1e-9)

    def capacity(self, area):
        """Charge in C that fills a plate of an area in nm2."""
        return CHARGE * self.site_density * area * self.thickness * 1e-27
