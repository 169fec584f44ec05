"""DICOM series made for tests."""

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset


def save_dicom(folder, image, uid="1.2.3", modality="CT", heights=None, name="s", change=None):
    """(x, y, z) in RAS order as axial slices; DICOM's axes point to the left and to the back.

    ``change(dataset, k)`` may alter slice k before it is written.
    """
    folder.mkdir(exist_ok=True)
    for k, height in enumerate(range(image.shape[2]) if heights is None else heights):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{uid}.{k + 1}"
        d = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        d.SeriesInstanceUID, d.Modality, d.PixelSpacing = uid, modality, [2.0, 3.0]
        d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 4.0 * height]
        d.Columns, d.Rows, d.RescaleSlope, d.RescaleIntercept = *image.shape[:2], 1, -1024
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
        d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
        d.PixelData = (image[::-1, ::-1, k].T + 1024).clip(0).astype(np.uint16).tobytes()
        if change is not None:
            change(d, k)
        d.save_as(folder / f"{name}{k:03d}.dcm", enforce_file_format=True)
    return folder
