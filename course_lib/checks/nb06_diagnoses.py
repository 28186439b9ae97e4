"""Notebook 06: what is wrong with each of the eleven programs, and why the symptom speaks against the rest."""

from __future__ import annotations

from .judge import Choice

DIAGNOSIS_1 = Choice(
    lambda: "c",
    "The table grows from 0 to almost 1: it says how much noise has been added. mix_1 reads it as how much picture is "
    "left, so t = 0 is the noisiest.",
    {
        "a": "Falling betas would change how fast the noise comes, but the product would still begin at 1: the picture "
        "at t = 0 would be clean.",
        "b": "Noise that is too strong would be too strong at every t. At t = 1000 there is none to be seen.",
        "d": "The titles are the numbers that mix_1 was given, and 0 comes first. The order is right; what it finds "
        "there is not.",
    },
)
DIAGNOSIS_2 = Choice(
    lambda: "d",
    "Black is 0 and shown as mid-gray; all above 1 is white. With pixels up to 255, noise of strength 1 "
    "hardly shows on them, until a_t is tiny.",
    {
        "a": "Too few steps would leave the picture at t = 1000, too. There it is gone: the schedule is long enough.",
        "b": "In the background, where pixels are 0, the noise is as strong as it should be. And the picture "
        "is wrong at t = 0 already, where there is no noise.",
        "c": "Swapped, the background would be white and the boot dark. Here it is gray, and the boot white.",
    },
)
DIAGNOSIS_3 = Choice(
    lambda: "b",
    "The ends 0.0001 and 0.02 were made for 1000 steps. 150 such steps multiply to a_T = 0.47: nearly half of the "
    "picture is left.",
    {
        "a": "The weight of the picture does not ask how strong the noise is: with weak noise x_T would be dim and "
        "smooth, not a picture.",
        "c": "One step more or less changes a_t by 0.005 here, which nobody sees. Half of the picture is left.",
        "d": "With the one-step alpha a_T would be √(1 - 0.02) = 0.99: the last picture as clean as the first.",
    },
)
DIAGNOSIS_4 = Choice(
    lambda: "a",
    "The picture goes back in with the weight alpha_bar instead of its root. At the next step the network expects a_s "
    "of it and finds a_s²: its guess is paler than the last one, and so on to flat gray.",
    {
        "b": "With too little noise put back the network has too little to take away: the pictures would come out "
        "smooth, but they would be garments.",
        "c": "These are the weights that notebook 05 samples from. And a poor network draws blots, in full black and "
        "white.",
        "d": "predict comes from the library and is told t, and x is at t. Look at what is done with its answers.",
    },
)
DIAGNOSIS_5 = Choice(
    lambda: "d",
    "The target is b_t · eps, noise that is already weighted. It is smaller than eps, so even the answer 0 has a loss "
    "of only E[b_t²], one half on this schedule.",
    {
        "a": "A new network answers 0 whatever it is shown, eps included: its first loss would still be 1.",
        "b": "The first loss is taken before the first update. No learning rate can have touched it.",
        "c": "Answers other than 0 would add an error of their own: the first loss would be above 1.",
    },
)
DIAGNOSIS_6 = Choice(
    lambda: "b",
    "The plane holds t itself, up to 1000, beside pixels of about 1: the answer grows with t, and the network spends "
    "its time on unlearning that.",
    {
        "a": "The first loss is taken before the first update, and it is far above 1 already. No learning rate has "
        "touched it.",
        "c": "Weights that are too large would make every answer too large. At t = 1 this one is of a normal size.",
        "d": "A sum over 784 pixels would end near 784 for an answer of 0. This loss ends near 1, so it is a mean.",
    },
)
DIAGNOSIS_7 = Choice(
    lambda: "a",
    "The dense layers are built, counted and handed to the optimizer, and forward never calls them: what they are "
    "cannot change the answer, and no gradient reaches them.",
    {
        "b": "The seed makes pictures and noise the same. Two networks with dense layers of different width would give "
        "different answers to them.",
        "c": "The learning rate acts from the second loss on. Networks of different width should differ in the first.",
        "d": "Layers that are called and never trained would still be two different random maps: the first losses "
        "would differ.",
    },
)
DIAGNOSIS_8 = Choice(
    lambda: "c",
    "The network is in train mode: BatchNorm subtracts the mean of the batch at hand and divides by its spread, so the "
    "neighbors decide how bright the boot is.",
    {
        "a": "This network has no dropout. And dropout would be random: the same call twice would give two answers.",
        "b": "The same call twice gives the same answer, to the last bit. There is no fresh noise in it.",
        "d": "Then parts of the neighbors would show up in the boot. Beside clothes it is the same boot, brighter or "
        "darker as a whole; beside black pictures all turns white, and none of their black is in it.",
    },
)
DIAGNOSIS_9 = Choice(
    lambda: "b",
    "The network is told 25, 24, … 1, the number of the step, while x is at 1000, 960, … 40. It believes in hardly any "
    "noise and takes hardly any away.",
    {
        "a": "The loss on test pictures is as low as it should be, and notebook 05 draws garments with these weights.",
        "c": "After x_T nothing in draw is random: DDIM adds no noise. Look for randn.",
        "d": "The standard deviation of x_T is printed, and it is close to 1, as it should be.",
    },
)
DIAGNOSIS_10 = Choice(
    lambda: "d",
    "The step hands on the guess itself. The network is asked about timestep s, finds a picture without noise, takes "
    "its dim parts for noise and removes them, again and again.",
    {
        "a": "40 steps of the library make garments from the same noise: see the last row.",
        "b": "Without the division x would shrink towards 0, and 0 is mid-gray. These pictures go to -1, black, and 1.",
        "c": "predict comes from the library and keeps the guess in [-1, 1]; and nothing here is brighter than white.",
    },
)
DIAGNOSIS_11 = Choice(
    lambda: "c",
    "sigma is not 0 for s = 0: the last step adds fresh noise to pictures that were finished.",
    {
        "a": "Few steps make coarse pictures, and row x0_hat shows how coarse. Its background is clean; that of the "
        "samples, one step later, is not.",
        "b": "Row x0_hat is the network's last guess, and its background is clean.",
        "d": "One byte is 0.008 wide. The grain in the background is more than ten times that.",
    },
)

DIAGNOSES = {
    1: DIAGNOSIS_1,
    2: DIAGNOSIS_2,
    3: DIAGNOSIS_3,
    4: DIAGNOSIS_4,
    5: DIAGNOSIS_5,
    6: DIAGNOSIS_6,
    7: DIAGNOSIS_7,
    8: DIAGNOSIS_8,
    9: DIAGNOSIS_9,
    10: DIAGNOSIS_10,
    11: DIAGNOSIS_11,
}
