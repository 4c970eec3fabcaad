"""Where we part from the published code: its habits, each with a name, in one object that a call carries along."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """Habits of the published code; all are off in our own way of working (`OWN`), all on in `PUBLISHED`.

    whole_windows_only: windows of any length and overlap; frames at the end that do not fill one are dropped.
    average_overlaps: where windows overlap, their mean; ours fades the new window in.
    encode_hole: known latents are encoded from the video as it comes, with what it shows in the hole; ours are
        those of the masked video.
    sampled_known_region: known latents are put back wherever the network's mask, one pixel of a block, is 0, and
        so at the hole's edge too; ours only where no pixel of the block is masked.
    network_sees_given_mask: ``mask_background`` turns the hole around but not the mask that the networks see.
    pool_masked_by_present_window: after the first step the ID pool of the window before is masked by the present
        window's hole; ours by the hole that it was collected in.
    masks_resized_as_pictures: masks of another size are resized with Pillow's Lanczos filter and cut at a half, which
        loses what is thin; ours mask every pixel under which any of the source's is.
    """

    whole_windows_only: bool = False
    average_overlaps: bool = False
    encode_hole: bool = False
    sampled_known_region: bool = False
    network_sees_given_mask: bool = False
    pool_masked_by_present_window: bool = False
    masks_resized_as_pictures: bool = False


OWN = Policy()
PUBLISHED = Policy(
    whole_windows_only=True,
    average_overlaps=True,
    encode_hole=True,
    sampled_known_region=True,
    network_sees_given_mask=True,
    pool_masked_by_present_window=True,
    masks_resized_as_pictures=True,
)
