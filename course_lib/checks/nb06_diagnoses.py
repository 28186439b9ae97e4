"""Notebook 06: what is wrong with each of the eleven programs, and why the symptom speaks against the other guesses."""

from __future__ import annotations

from .judge import Choice

DIAGNOSES = {
    1: Choice(
        lambda: "c",
        "The table grows from 0 to almost 1, so it says how much noise has been added. mix_1 reads it as how much "
        "picture is left, and so t = 0 comes out noisiest.",
        {
            "a": "Falling betas would change how fast the noise comes. But the product would still begin at 1, and the "
            "picture at t = 0 would be clean.",
            "b": "Noise that is too strong would be too strong at every t. At t = 1000 there is none to be seen.",
            "d": "The titles are the numbers that mix_1 was given, and 0 comes first. The order is right; what comes "
            "out at each t is not.",
        },
    ),
    2: Choice(
        lambda: "d",
        "Black is 0 and shows as mid-gray; everything above 1 shows as white. Noise of strength 1 hardly shows on "
        "pixels up to 255 until a_t is tiny.",
        {
            "a": "With too few steps, the picture would also be there at t = 1000. There it is gone, so the schedule "
            "is long enough.",
            "b": "In the background, where pixels are 0, the noise is as strong as it should be. And the picture is "
            "wrong at t = 0 already, where there is no noise.",
            "c": "Swapped, the background would be white and the boot dark. Here the background is gray and the boot "
            "white.",
        },
    ),
    3: Choice(
        lambda: "b",
        "The ends 0.0001 and 0.02 were made for 1000 steps. After 150 such steps a_T is 0.47: nearly half of the "
        "picture is left.",
        {
            "a": "How much picture is left does not depend on the noise. With weak noise x_T would be dim and smooth, "
            "and no picture.",
            "c": "One step more or less changes a_t by 0.005 here, which nobody sees. Half of the picture is left.",
            "d": "With the alpha of one step, a_T would be √(1 - 0.02) = 0.99: the last picture as clean as the first.",
        },
    ),
    4: Choice(
        lambda: "a",
        "The picture goes back in with the weight alpha_bar instead of its root. At the next step the network expects "
        "a_s of it and finds a_s². So it guesses a paler picture than before, and so on to flat gray.",
        {
            "b": "With too little noise put back, the network would have too little to take away. The pictures would "
            "come out smooth, but they would be garments.",
            "c": "Notebook 05 samples from these very weights. And a poor network gives blots in full black and white.",
            "d": "predict comes from the library and is told t, and x is at t. Look at what the program does with its "
            "answers.",
        },
    ),
    5: Choice(
        lambda: "d",
        "The target is b_t · eps, noise that already has its weight. It is smaller than eps, so that even the answer 0 "
        "has a loss of only E[b_t²], one half on this schedule.",
        {
            "a": "A new network answers 0 to whatever you show it, eps included: its first loss would still be 1.",
            "b": "The first loss is taken before the first update. No learning rate can have touched it.",
            "c": "Answers other than 0 would add an error of their own: the first loss would be above 1.",
        },
    ),
    6: Choice(
        lambda: "b",
        "The plane holds t itself, up to 1000, beside pixels of about 1. The answer grows with t, and the network "
        "spends its time on unlearning that.",
        {
            "a": "The first loss is taken before the first update, and it is far above 1 already. No learning rate has "
            "touched it.",
            "c": "Weights that are too large would make every answer too large. At t = 1 this one has a normal size.",
            "d": "A sum over 784 pixels would end near 784 for the answer 0. This loss ends near 1, so it is a mean.",
        },
    ),
    7: Choice(
        lambda: "a",
        "The dense layers are built, counted and handed to the optimizer, but forward never calls them. So they cannot "
        "change the answer, and no gradient reaches them.",
        {
            "b": "The seed makes pictures and noise the same. Two networks whose dense layers differ in width would "
            "still answer them differently.",
            "c": "The learning rate acts from the second loss on. Networks of different width should differ in the "
            "first.",
            "d": "Layers that are called and never trained would still be two different random maps: the first losses "
            "would differ.",
        },
    ),
    8: Choice(
        lambda: "c",
        "The network is in train mode: BatchNorm subtracts the mean of the batch at hand and divides by its spread, so "
        "the neighbors decide how bright the boot is.",
        {
            "a": "This network has no dropout. And with dropout, the same call twice would give two answers.",
            "b": "The same call twice gives the same answer, to the last bit. There is no fresh noise in it.",
            "d": "Then parts of the neighbors would show up in the boot. Beside clothes it is the same boot, brighter "
            "or darker as a whole. Beside black pictures it turns white, with none of their black in it.",
        },
    ),
    9: Choice(
        lambda: "b",
        "The network is told 25, 24, … 1, the number of the step, while x is at 1000, 960, … 40. It thinks that there "
        "is hardly any noise, and takes hardly any away.",
        {
            "a": "The loss on test pictures is as low as it should be, and notebook 05 samples garments with these "
            "weights.",
            "c": "After x_T nothing in draw is random: DDIM adds no noise. Look for randn.",
            "d": "The standard deviation of x_T is printed, and it is close to 1, as it should be.",
        },
    ),
    10: Choice(
        lambda: "d",
        "The step hands on the guess itself. The network is asked about timestep s and finds a picture without noise. "
        "It takes the dim parts for noise and removes them, again and again.",
        {
            "a": "From the same noise, 40 steps of the library make garments: see the last row.",
            "b": "Without the division x would shrink towards 0, and 0 is mid-gray. These pictures go to -1, black, "
            "and 1.",
            "c": "predict comes from the library and keeps the guess in [-1, 1]; and nothing here is brighter than "
            "white.",
        },
    ),
    11: Choice(
        lambda: "c",
        "sigma is not 0 for s = 0, so the last step adds fresh noise to pictures that were finished.",
        {
            "a": "Few steps make coarse pictures, and row x0_hat shows how coarse. Its background is clean; one step "
            "later, the background of the samples is not.",
            "b": "Row x0_hat is the network's last guess, and its background is clean.",
            "d": "One byte is 0.008 wide. The grain in the background is more than ten times that.",
        },
    ),
}
