"""Array kernels: arrays in, arrays out.

Images are ``(..., y, x)`` arrays in pixels; components of physical vectors and tensors are in
``(x, y)`` order with y pointing down, as HyperSpy draws. Nothing here knows HyperSpy, units,
plotting or files. A kernel takes the array module (NumPy or CuPy) from its input.

Its rooms: `gpa`, `concentration`, `mechanics`, `patterns`, `peaks`.
"""
